"""Pipelines of diffusers: opening a model folder, checking a request, one call, and its result."""
