"""How our processes and threads share the processors of a machine that has too few of them."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

NICENESS: Final = 19
"""Of services that can wait: 0 … 19, and more yields more."""

TURN_S: Final = 0.0005
"""How long a thread that computes keeps others waiting. Python's 5 ms, once for each step of a request that waits for
another thread, add up to what a user notices."""

_changing = threading.Lock()
_wanted = 0
_before_s = 0.0


def in_turn() -> None:
    """Wait for a turn instead of interrupting who runs: this process, and what it starts from here on.

    Each message wakes its reader. Linux would hand it the processor at once, in the middle of the writer's work, which
    then has its next message to write: on a busy machine every hop costs two changes of process that way. In turn, a
    reader begins when the writer waits itself or has had its share, and finds several messages. Where a processor is
    free nothing changes. See SCHED_BATCH in sched(7); elsewhere there is no such thing.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def yielding() -> None:
    """Work while the others have nothing to do."""
    os.nice(NICENESS)


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
