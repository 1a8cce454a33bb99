"""Models that a provider runs: Replicate, fal and what is common to them. Nothing here needs torch."""
