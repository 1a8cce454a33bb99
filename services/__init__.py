"""The programs around the ledger, in rooms; each can run alone."""
