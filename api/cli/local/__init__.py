"""What commands do directly on the database and the object store, without a server."""
