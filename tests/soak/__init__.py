"""The chaos soak: jobs flow while everything under them is killed, cut and stopped; then every promise is checked.

`make soak SEED=1 MINUTES=5`, or `python -m tests.soak --help`. The seed decides the faults, their targets and their
order; how they fall between what the clients do is the machine's.
"""
