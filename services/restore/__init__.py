"""A Postgres that was restored from an older backup: noticed by content, and put right by `darkroom restored`."""
