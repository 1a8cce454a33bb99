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

from domain.aggregates.job import Job, Running, Waiting
from domain.commands import CancelJob
from domain.envelope import Recorded
from domain.events import JobCanceled, JobQueued
from projections.sql import load
from services.database import Database, Unavailable
from services.ledger import JOB, Context, Instruction, Ledger
from services.users import ADMIN

SQL = load("unfinished.sql", "services.queue")

PAGE_JOBS: Final = 250
"""Number of jobs read and canceled in one commit."""

STRIDE: Final = 4_000
"""Number of ledger positions read at a time."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Numbers of jobs of an owner: waiting, running, and running but asked to stop."""

    waiting: int
    running: int
    stopping: int


@dataclass(frozen=True, slots=True)
class CanceledJobs:
    """Number of waiting jobs canceled now, and of running ones asked to stop now or before.

    `failed` maps the id of a job that could not be canceled to the reason, such as an event of a newer version.
    """

    waiting: int
    running: int
    failed: dict[UUID, Exception]


def count(database: Database, ledger: Ledger, owner: str) -> Unfinished:
    """Count the owner's jobs: waiting ones as the view has them, running ones as the ledger does.

    Raises `Unavailable`.
    """
    position, waiting = _counted(database, owner)
    running, stopping = 0, 0
    # Of the few running ones the ledger says whether they were asked to stop, which the view may not have read yet.
    for page in _running_in_view(database, owner):
        jobs = [generation.job for generation in ledger.generations_of(page).values()]
        running += len(page) - len(jobs) + sum(_goes_on(job) for job in jobs)  # one that cannot be read is kept
        stopping += sum(isinstance(job, Running) and job.cancel_requested for job in jobs)
    for page in _newer(ledger, owner, position):
        jobs = [generation.job for generation in ledger.generations_of(page).values()]
        waiting += sum(isinstance(job, Waiting) for job in jobs)
        running += sum(_goes_on(job) for job in jobs)
        stopping += sum(isinstance(job, Running) and job.cancel_requested for job in jobs)
    return Unfinished(waiting, running, stopping)


def cancel_all(database: Database, ledger: Ledger, owner: str, now: Callable[[], datetime]) -> CanceledJobs:
    """Cancel the owner's jobs as the administrator: waiting ones immediately; running ones are asked to stop.

    The worker of a running job learns of it with its next heartbeat. Safe to repeat. Raises `Unavailable`.
    """
    position, _ = _counted(database, owner)
    canceled, running, failed = 0, set[UUID](), dict[UUID, Exception]()
    for page in chain(_in_view(database, owner), _newer(ledger, owner, position)):
        asked = [Instruction(JOB, job_id, CancelJob(now()), Context(ADMIN, owner)) for job_id in page]
        for job_id, outcome in zip(page, ledger.execute_each(asked), strict=True):
            if isinstance(outcome, Unavailable):
                raise outcome
            if isinstance(outcome, Exception):
                failed[job_id] = outcome
            elif any(isinstance(event, JobCanceled) for event in outcome.decision.job):
                canceled += 1
            elif isinstance(outcome.state.job, Running):
                running.add(job_id)
    return CanceledJobs(canceled, len(running), failed)


def _goes_on(job: Job) -> bool:
    return isinstance(job, Running) and not job.cancel_requested


def _counted(database: Database, owner: str) -> tuple[int, int]:
    with database.connection() as connection:
        ((position, waiting),) = connection.execute(SQL["counted"], {"owner": owner}).fetchall()
    return position, waiting


def _in_view(database: Database, owner: str) -> Iterator[Sequence[UUID]]:
    return _pages(database, owner, "page")


def _running_in_view(database: Database, owner: str) -> Iterator[Sequence[UUID]]:
    return _pages(database, owner, "page_of_running")


def _pages(database: Database, owner: str, statement: str) -> Iterator[Sequence[UUID]]:
    after = UUID(int=0)
    while True:
        with database.connection() as connection:
            found = connection.execute(SQL[statement], {"owner": owner, "after": after, "limit": PAGE_JOBS}).fetchall()
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
