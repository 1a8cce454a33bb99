"""The jobs of one owner that have not ended: how many there are, and how an administrator cancels all of them.

The view `queue` holds them, and may be behind the ledger, as while no projector runs. So what was submitted after the
position that it has read is looked up in the ledger itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

from domain.commands import CancelJob
from domain.envelope import Recorded
from domain.events import JobCanceled, JobQueued
from domain.job import Running, Waiting
from projections.sql import load
from services.database import Database, Unavailable
from services.ledger import Asked, Context, Ledger
from services.users import ADMIN

SQL = load("unfinished.sql", "services")

PAGE_JOBS: Final = 250
"""Jobs that are read, and canceled in one commit, at a time."""

STRIDE: Final = 4_000
"""Positions of the ledger that are looked through at a time."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How many jobs of an owner wait, and how many run."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Canceled:
    """How many waiting jobs were canceled just now, and how many running ones have been asked to stop, now or before.

    `failed` holds, by its id, what kept a job from being canceled, such as an event of a newer version.
    """

    waiting: int
    running: int
    failed: dict[UUID, Exception]


def count(database: Database, ledger: Ledger, owner: str) -> Unfinished:
    """Count the owner's jobs. Raises `Unavailable`."""
    position, waiting, running = _counted(database, owner)
    for page in _newer(ledger, owner, position):
        jobs = [generation.job for generation in ledger.generations_of(page).values()]
        waiting += sum(isinstance(job, Waiting) for job in jobs)
        running += sum(isinstance(job, Running) for job in jobs)
    return Unfinished(waiting, running)


def cancel_all(database: Database, ledger: Ledger, owner: str, now: Callable[[], datetime]) -> Canceled:
    """Cancel the owner's jobs as the administrator: waiting ones at once; running ones are asked to stop.

    The worker of a running job hears of it by its next heartbeat. Safe to repeat. Raises `Unavailable`.
    """
    position, _, _ = _counted(database, owner)
    canceled, running, failed = 0, set[UUID](), dict[UUID, Exception]()
    for page in chain(_in_view(database, owner), _newer(ledger, owner, position)):
        asked = [Asked(job_id, CancelJob(now()), Context(ADMIN, owner)) for job_id in page]
        for job_id, outcome in zip(page, ledger.execute_each(asked), strict=True):
            if isinstance(outcome, Unavailable):
                raise outcome
            if isinstance(outcome, Exception):
                failed[job_id] = outcome
            elif any(isinstance(event, JobCanceled) for event in outcome.decision.job):
                canceled += 1
            elif isinstance(outcome.generation.job, Running):
                running.add(job_id)
    return Canceled(canceled, len(running), failed)


def _counted(database: Database, owner: str) -> tuple[int, int, int]:
    with database.connection() as connection:
        ((position, waiting, running),) = connection.execute(SQL["counted"], {"owner": owner}).fetchall()
    return position, waiting, running


def _in_view(database: Database, owner: str) -> Iterator[Sequence[UUID]]:
    after = UUID(int=0)
    while True:
        with database.connection() as connection:
            found = connection.execute(SQL["page"], {"owner": owner, "after": after, "limit": PAGE_JOBS}).fetchall()
        if not found:
            return
        page = [job_id for (job_id,) in found]
        yield page
        after = page[-1]


def _newer(ledger: Ledger, owner: str, position: int) -> Iterator[Sequence[UUID]]:
    """The jobs submitted after a position, up to where the ledger ends when this is first asked."""
    head = ledger.head()
    for start in range(position, head, STRIDE):
        found = ledger.read_of(["job.queued"], start, min(start + STRIDE, head))
        page = [
            each.stream_id
            for each in found
            if isinstance(each, Recorded) and isinstance(each.event, JobQueued) and each.event.owner == owner
        ]
        if page:
            yield page
