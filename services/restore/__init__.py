"""Detects by content that Postgres was restored from an older backup, and repairs it: `darkroom restored`."""
