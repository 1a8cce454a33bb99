"""How often Python looks for garbage that reference counts do not find."""

import gc
from typing import Final

NEW_OBJECTS: Final = 50_000
"""Containers that a process makes before the next look. A batch of 2,000 events makes more than ten thousand, which go
together and hold no cycles: with Python's own 700, looking through them took half of what a projection costs. What
waits to be found, the cycles of requests and tracebacks that have ended, is a few megabytes."""


def collect_seldom() -> None:
    """For the whole process, before it begins its work."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
