"""Language models that enhance prompts."""
