"""Limits of connections, requests and work, for each owner and address."""
