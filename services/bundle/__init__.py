"""Export a part of the ledger with its files into one portable file (`export.py`), and import it (`intake.py`).

`census.py` checks the events of a bundle on both sides: what was exported can be imported. `layout.py` is the format;
docs/bundles.md describes it.
"""
