"""Darkroom beside what others offer, measured in one run: `python -m benchmarks`."""
