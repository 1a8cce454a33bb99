"""Batches and comparisons: jobs that are submitted together."""
