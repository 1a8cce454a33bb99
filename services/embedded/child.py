"""A server as a child process: started in its own session, logged to a file, ended step by step.

On Linux it ends when its parent dies, for any reason. `processes` finds one that outlived its parent, on Linux or
elsewhere.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.embedded.user import ChildUser

LOG_BYTES_MAX = 16 * 1024**2  # then it becomes NAME.log.1 and replaces the older one: two files bound the logs' size
TAIL_BYTES = 16 * 1024

Steps = Sequence[tuple[signal.Signals, float]]
"""Signals to send in order, each with the seconds to wait before the next."""


class Child:
    """One server: its command, its log, and its process while it runs. Not thread-safe; its owner locks."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        death_signal: signal.Signals,
        user: ChildUser | None = None,
        environment: Mapping[str, str] | None = None,
        in_turn: bool = False,
    ) -> None:
        """`environment` replaces the inherited one.

        `user` runs the child as that user, which only root can. `in_turn`: see services.scheduling.
        """
        self.command = list(command)
        self.log = log
        self._death_signal = death_signal
        self._user = user
        self._environment = _environment() if environment is None else dict(environment)
        self._in_turn = in_turn
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def spawn(self) -> None:
        """Start the process.

        Linux treats the end of the calling *thread* as the death of the parent: call this from a thread that outlives
        the child.
        """
        terms = {
            "parent": os.getpid(),
            "death_signal": int(self._death_signal),
            "in_turn": self._in_turn,
            "user": None if self._user is None else (self._user.uid, self._user.gid),
            "may_enter_hidden_folders": self._user is not None and self._user.may_enter_hidden_folders,
        }
        launch = Path(__file__).with_name("launch.py")
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            self._process = subprocess.Popen(  # noqa: S603 — no shell, and the command is ours
                [sys.executable, "-I", "-S", str(launch), json.dumps(terms), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal must reach only us; we end our children in order
            )
        finally:
            os.close(log)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs, or before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, or None if it still runs after the timeout."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def send(self, sig: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(sig)

    def end(self, steps: Steps) -> None:
        """End it and wait until it has ended. Does nothing if it is not running."""
        for sig, patience_s in steps:
            self.send(sig)
            if not self.running or self.wait(patience_s) is not None:
                break
        self._process = None

    def tail(self) -> str:
        """The end of the log of the current (or the last) process."""
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""


def _environment() -> dict[str, str]:
    """Our environment without PG*: the user's PGPORT must not move our server.

    Messages in English, since we parse them.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))} | {"LC_ALL": "C"}


def processes(name: str, belongs: Callable[[str], bool]) -> list[Any]:
    """Running processes (psutil's objects) with this name and a matching command line."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 — of the extra `embedded`

    found = psutil.process_iter(["name", "cmdline"])
    return [p for p in found if p.info["name"] == name and belongs(" ".join(p.info["cmdline"] or ()))]


def end_processes(found: Sequence[Any], steps: Steps) -> None:
    """End processes that are not our children, and wait until they have ended."""
    import psutil  # noqa: PLC0415 — of the extra `embedded`

    def runs(process: Any) -> bool:
        try:  # a zombie has ended, even if the init of a container never reaps it
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    for sig, patience_s in steps:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sig)
        deadline = time.monotonic() + patience_s
        while (found := [p for p in found if runs(p)]) and time.monotonic() < deadline:
            time.sleep(0.02)
