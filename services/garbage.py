"""How often Python looks for garbage that reference counts do not find."""

import gc
from typing import Final

NEW_OBJECTS: Final = 50_000
"""Containers that a process makes before the next look. A batch of 2,000 events makes more than ten thousand, which go
together and hold no cycles: with Python's own 700, looking through them took half of what a projection costs. What
waits to be found, the cycles of requests and tracebacks that have ended, is a few megabytes."""

OLDER_LOOKS: Final = (20, 50)
"""Looks at the younger objects before one at those that outlived a look, and before one at all; Python's own are 10."""


def collect_seldom() -> None:
    """For the whole process, before it begins its work."""
    gc.set_threshold(NEW_OBJECTS, *OLDER_LOOKS)


def keep_what_is_loaded() -> None:
    """Never look again at what is there by now, the imported modules: a service has all of them for life."""
    gc.collect()
    gc.freeze()
