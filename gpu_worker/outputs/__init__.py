"""Rendered outputs as files: encoded with their origin, and stored once."""
