"""What every request goes through: connections, identity, the log, errors, headers, pages, the OpenAPI document."""
