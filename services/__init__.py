"""The programs around the ledger, one file each; every one can run alone."""
