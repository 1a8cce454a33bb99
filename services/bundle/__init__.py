"""A part of the ledger with its files in one portable file: `export.py` writes it, `intake.py` takes it in.

`census.py` holds what must be true of the events of a bundle, and is asked on both sides: what was exported can be
imported. `layout.py` is the format; docs/bundles.md describes it.
"""
