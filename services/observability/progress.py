"""The progress of this process's services and what each waits for; written to Postgres every few seconds.

A service reports its progress in memory, which costs nothing. One task per process writes everything with one
statement, so every API process, and `darkroom doctor`, can read the state of all services.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import orjson

from projections.sql import load
from services.database import Database, Unavailable
from services.observability.redaction import redacted

log = logging.getLogger(__name__)

SQL = load("progress.sql", "services.observability")

TELL_S: Final = 3.0
"""Seconds between two reports of a process."""

WAIT_S_MAX: Final = 30.0
"""Seconds after which a wait that was not repeated is over: a waiting service reports its wait at each attempt."""

SENTENCE_CHARS_MAX: Final = 500

WRITER: Final = "ledger writer"
"""The name under which a process reports on its group commit."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A service's wait: a stable code, a sentence without its subject or full stop, and what to do.

    `since_s` and `told_s` are times of the monotonic clock.
    """

    code: str
    reason: str
    remedy: str
    since_s: float
    told_s: float


@dataclass(slots=True)
class ServiceProgress:
    """The progress of one service of this process. Thread-safe."""

    service: str
    started_s: float = field(default_factory=time.monotonic)
    moved_s: float | None = None
    position: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _wait: Wait | None = None

    def looked(self, position: int | None = None) -> None:
        """A step succeeded, even if it found nothing to do. After the first call, silence counts as stuck."""
        self.moved_s = time.monotonic()
        self._wait = None
        if position is not None:
            self.position = position

    def went_on(self) -> None:
        """The wait is over. For a service without steps, where silence means nothing."""
        self._wait = None

    def waits(self, error: Exception | str, code: str = "", remedy: str = "") -> None:
        """The service cannot continue now. `reason`, `code` and `remedy` come from the error if it has them."""
        now = time.monotonic()
        before = self.waiting
        code = code or getattr(error, "reason", "") or getattr(error, "code", "") or "unavailable"
        remedy = remedy or getattr(error, "remedy", "")
        reason = redacted(str(error) or type(error).__name__).rstrip(".")[:SENTENCE_CHARS_MAX]
        since_s = before.since_s if before is not None and before.code == code else now
        self._wait = Wait(code, reason, remedy, since_s, now)

    @property
    def waiting(self) -> Wait | None:
        """The current wait."""
        wait = self._wait
        return wait if wait is not None and time.monotonic() - wait.told_s < WAIT_S_MAX else None

    def row(self, now: float) -> dict[str, Any]:
        """The row for the table `service_progress`."""
        wait = self.waiting
        return {
            "service": self.service,
            "started_s": now - self.started_s,
            "idle_s": 0.0 if self.moved_s is None else now - self.moved_s,
            "position": self.position,
            "code": wait and wait.code,
            "waits_for": wait and wait.reason,
            "waits_s": wait and now - wait.since_s,
            "remedy": wait and wait.remedy,
            "facts": self.facts,
        }


_services: Final[dict[str, ServiceProgress]] = {}


def of(service: str) -> ServiceProgress:
    """The progress of a service of this process."""
    return _services.setdefault(service, ServiceProgress(service))


def forget(service: str) -> None:
    """The service has ended."""
    _services.pop(service, None)


def here() -> list[ServiceProgress]:
    """The progress of every service of this process."""
    return list(_services.values())


class Telling:
    """Reports the progress of this process's services until the block ends: `async with Telling(database, names):`."""

    def __init__(self, database: Database, names: Iterable[str]) -> None:
        self._database = database
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._names = list(names)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        for name in self._names:
            _services[name] = ServiceProgress(name)
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for name in self._names:
            _services.pop(name, None)
        with suppress(Unavailable):
            await asyncio.to_thread(self._leave)

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.tell)
            except Unavailable as error:
                log.debug("how the services are is not written now: %s", error)
            except Exception:  # readers see that this process is silent; its work continues
                log.exception("how the services are could not be written")
            await asyncio.sleep(TELL_S)

    def tell(self) -> None:
        """Write one report. Raises `Unavailable`."""
        now = time.monotonic()
        rows = orjson.dumps([service.row(now) for service in here()]).decode()
        with self._database.connection() as connection:
            connection.execute(SQL["tell"], {"process": self._process, "rows": rows})
            connection.execute(SQL["forget"])

    def _leave(self) -> None:
        with self._database.connection() as connection:
            connection.execute(SQL["leave"], (self._process,))
