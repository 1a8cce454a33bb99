"""The jobs of one owner that have not ended: count them, or cancel all of them as an administrator.

The view `queue` holds them but may lag behind the ledger, for example while no projector runs. So jobs submitted after
the view's position are read from the ledger itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

from domain.aggregates.job import Running, Waiting
from domain.commands import CancelJob
from domain.envelope import Recorded
from domain.events import JobCanceled, JobQueued
from projections.sql import load
from services.database import Database, Unavailable
from services.ledger import Context, Instruction, Ledger
from services.users import ADMIN

SQL = load("unfinished.sql", "services.queue")

PAGE_JOBS: Final = 250
"""Number of jobs read and canceled in one commit."""

STRIDE: Final = 4_000
"""Number of ledger positions read at a time."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Numbers of waiting and running jobs of an owner."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class CanceledJobs:
    """Number of waiting jobs canceled now, and of running ones asked to stop now or before.

    `failed` maps the id of a job that could not be canceled to the reason, such as an event of a newer version.
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


def cancel_all(database: Database, ledger: Ledger, owner: str, now: Callable[[], datetime]) -> CanceledJobs:
    """Cancel the owner's jobs as the administrator: waiting ones immediately; running ones are asked to stop.

    The worker of a running job learns of it with its next heartbeat. Safe to repeat. Raises `Unavailable`.
    """
    position, _, _ = _counted(database, owner)
    canceled, running, failed = 0, set[UUID](), dict[UUID, Exception]()
    for page in chain(_in_view(database, owner), _newer(ledger, owner, position)):
        asked = [Instruction(job_id, CancelJob(now()), Context(ADMIN, owner)) for job_id in page]
        for job_id, outcome in zip(page, ledger.execute_each(asked), strict=True):
            if isinstance(outcome, Unavailable):
                raise outcome
            if isinstance(outcome, Exception):
                failed[job_id] = outcome
            elif any(isinstance(event, JobCanceled) for event in outcome.decision.job):
                canceled += 1
            elif isinstance(outcome.generation.job, Running):
                running.add(job_id)
    return CanceledJobs(canceled, len(running), failed)


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
    """The jobs submitted after a position, up to the end of the ledger at the first call."""
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
