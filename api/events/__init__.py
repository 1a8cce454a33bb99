"""The stream of all events of an owner, and the feed of the ledger behind it."""
