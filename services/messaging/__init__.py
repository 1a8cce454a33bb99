"""NATS: the connection, the messages on it, the broadcast of the ledger, and the rights of each user."""
