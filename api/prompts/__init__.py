"""Saved prompts, enhancement, and the scores of prompts."""
