"""Seconds from `darkroom up` on a data folder that exists to its `ready`."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE
from typing import Final

from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage
from benchmarks.submit import free_port

STOP_S_MAX: Final = 60.0


@contextmanager
def contest(stage: Stage) -> Iterator[Contest]:
    """The first start makes the folder; it is the one that warms up and is not counted."""
    environment = {
        **os.environ,
        "DARKROOM_DATA_DIR": str(stage.folder / "up"),
        "DARKROOM_PORT": str(free_port()),
    }
    yield Contest(ours=lambda: started(environment), peer=None)


def started(environment: dict[str, str]) -> float:
    """Seconds."""
    command = [sys.executable, "-m", "api.cli", "up", "--workers", "none"]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=DEVNULL, text=True) as up:
        assert up.stdout is not None
        said = up.stdout.readline()
        taken_s = time.perf_counter() - began
        up.terminate()
        up.communicate(timeout=STOP_S_MAX)
    if not said.startswith("ready"):
        raise RuntimeError("Darkroom did not start.")
    return taken_s


ROWS = [Row("start", "seconds, `darkroom up` on a folder that exists, no worker", "—", Target("ours", "≤", 5), contest)]
