"""The programs around the ledger, one file each; each can run alone."""
