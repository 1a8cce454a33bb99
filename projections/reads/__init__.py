"""Typed queries over the views: each takes a connection and runs in one round trip."""
