"""Large batches beside other requests: one is made or shown at a time, and threads take turns more often meanwhile."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TURN_S: Final = 0.0005
"""How long a thread that computes keeps others waiting. Python's 5 ms, once for each step of a request that waits for
another thread, add up to what a user notices."""

_changing = threading.Lock()
_wanted = 0
_before_s = 0.0


@contextmanager
def short_turns() -> Iterator[None]:
    """While a thread computes for long: others wait for `TURN_S` at a time."""
    global _wanted, _before_s  # noqa: PLW0603 - the interval is one for the whole process
    with _changing:
        _wanted += 1
        if _wanted == 1:
            _before_s = sys.getswitchinterval()
            sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        with _changing:
            _wanted -= 1
            if not _wanted:
                sys.setswitchinterval(_before_s)
