"""The interfaces: HTTP, the command line, and everything in one process tree. They only translate."""
