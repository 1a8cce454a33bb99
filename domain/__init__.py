"""The domain: events, commands and the pure rules between them. No IO, no clock, no randomness."""
