"""A worker whose clock is wrong: `python -m tests.soak.wrong_clock FILE` is `python -m gpu_worker` with its time moved.

FILE holds the seconds to add, and is read again on SIGUSR1: the clock jumps while it works. The wall clock alone is
moved, as ntpd, a resumed machine or an operator moves it; the monotonic clock is what it is.
"""

import datetime
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

true_time = time.time


class Shift:
    """Seconds between the true time and what this machine believes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds = 0.0
        self.read()

    def read(self, *_: object) -> None:
        """As the file has it now."""
        self.seconds = float(self._file.read_text())


def move_the_clock(shift: Shift) -> None:
    """Before anything else of the worker is imported: it takes these names from their modules."""

    class WrongDatetime(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(true_time() + shift.seconds, tz)

    time.time = lambda: true_time() + shift.seconds
    datetime.datetime = WrongDatetime  # type: ignore[misc]


if __name__ == "__main__":
    shift = Shift(Path(sys.argv.pop()))
    signal.signal(signal.SIGUSR1, shift.read)
    move_the_clock(shift)
    runpy.run_module("gpu_worker", run_name="__main__", alter_sys=True)
