"""What commands do with a server: requests, events, files, watching."""
