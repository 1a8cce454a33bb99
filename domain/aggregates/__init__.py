"""The aggregates: each decides what a command may do to it, and folds its events to a state."""
