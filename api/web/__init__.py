"""What the API serves to browsers: pages, and libraries of others with their versions, licences and hashes."""
