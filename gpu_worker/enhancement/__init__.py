"""Enhanced prompts: made before a render, and for the API between jobs."""
