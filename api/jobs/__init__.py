"""Jobs: submit, read, cancel, retry, reuse their inputs; and the catalog of what can be asked for."""
