"""The rows that projections make of the ledger: kept up to date, rebuilt, and shown to their owners alone."""
