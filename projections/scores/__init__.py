"""Scores of prompts, models and job types, from ratings and from preferences between two assets."""
