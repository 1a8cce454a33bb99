"""How often Python's cyclic garbage collector runs."""

import gc
from typing import Final

NEW_OBJECTS: Final = 50_000
"""New containers before the next collection. A batch of 2,000 events makes more than ten thousand, which are freed
together and form no cycles: with Python's default of 700, collections took half of the time of a projection. The
garbage that waits, cycles of ended requests and tracebacks, is a few megabytes."""

OLDER_LOOKS: Final = (20, 50)
"""Thresholds of the second and third generation; Python's defaults are 10."""


def collect_seldom() -> None:
    """Configure the whole process, before it begins its work."""
    gc.set_threshold(NEW_OBJECTS, *OLDER_LOOKS)


def keep_what_is_loaded() -> None:
    """Exclude all current objects, the imported modules, from collections: a service keeps them for life."""
    gc.collect()
    gc.freeze()
