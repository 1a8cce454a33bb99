"""Prompts as words: negative prompts and enhancement by rule, and how texts of people are compared."""
