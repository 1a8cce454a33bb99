"""How processes and threads share the processors of a machine that has too few of them."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

NICENESS: Final = 19
"""Niceness of services that can wait: 0 … 19, higher yields more."""

TURN_S: Final = 0.0005
"""Maximum seconds for which a computing thread blocks others. Python's 5 ms add up to a delay that users notice, since
each step of a request waits for another thread."""

_changing = threading.Lock()
_wanted = 0
_before_s = 0.0


def in_turn() -> None:
    """Schedule this process, and its later children, in turn instead of interrupting others.

    Each message wakes its reader. Linux would run the reader immediately, in the middle of the writer's work, and the
    writer still has its next message to write: on a busy machine every message costs two context switches. In turn, a
    reader starts when the writer waits or has used its time slice, and finds several messages. With a free processor
    nothing changes. See SCHED_BATCH in sched(7); other systems have no equivalent.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def yielding() -> None:
    """Run only while other processes are idle."""
    os.nice(NICENESS)


@contextmanager
def short_turns() -> Iterator[None]:
    """While a thread computes for a long time: others wait at most `TURN_S` at a time."""
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
