"""How our processes share the processors of a machine that has too few of them."""

import os
from contextlib import suppress
from typing import Final

NICENESS: Final = 19
"""Of services that can wait: 0 … 19, and more yields more."""


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
