"""Pages for browsers, and third-party libraries with their versions, licences and hashes."""
