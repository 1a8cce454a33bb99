"""The outside: HTTP, the command line, and everything in one process tree. Translation only."""
