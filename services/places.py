"""Where waiting jobs stand, in the order in which the dispatcher hands them out."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.fairness import Line, about_place, in_order
from projections.sql import load
from services.lines import Backlog, read_backlog

SQL = load("places.sql", "services")

FRONT: Final = 4
"""Jobs of each line whose places are found by ordering them all; those behind are reckoned."""

COUNTED_MAX: Final = 1_000
"""Jobs of a line that are counted one by one; those behind are placed by where they stand in the ledger."""


class _Asked(NamedTuple):
    pool: str
    owner: str
    priority: int
    job_id: UUID
    came: int


def places_in_queue(connection: Connection[TupleRow], job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The place of each waiting job among those of its pool, from 1; jobs that do not wait are left out.

    Exact at the front, and for whoever waits alone; deep in a long queue of several owners it is an estimate: the work
    does not grow with the backlog. That an owner may have only so many jobs running is not counted.
    """
    found = connection.execute(SQL["asked"], (list(job_ids),), prepare=True).fetchall() if job_ids else []
    places: dict[UUID, int] = {}
    for pool, asked in groupby(map(_Asked._make, found), lambda job: job.pool):
        backlog = read_backlog(connection, pool, due=False, depth=FRONT)
        front = {job.job_id: place for place, job in enumerate(in_order(backlog.lines, backlog.rounds, {}), start=1)}
        jobs = list(asked)
        places |= {job.job_id: front[job.job_id] for job in jobs if job.job_id in front}
        behind = [job for job in jobs if job.job_id not in front]
        for (owner, priority), line in groupby(behind, lambda job: (job.owner, job.priority)):
            mine = next((one for one in backlog.lines if (one.owner, one.priority) == (owner, priority)), None)
            if mine is not None:  # else it was handed out in this moment
                places |= _behind(connection, pool, mine, list(line), backlog, len(front))
    return places


def _behind(
    connection: Connection[TupleRow], pool: str, mine: Line, jobs: Sequence[_Asked], backlog: Backlog, front: int
) -> dict[UUID, int]:
    """Places of jobs of one line that stand behind the `front`, whose order is known exactly."""
    arguments = {"pool": pool, "owner": mine.owner, "priority": mine.priority, "limit": COUNTED_MAX}
    counted = [came for (came,) in connection.execute(SQL["counted"], arguments, prepare=True).fetchall()]
    ((last,),) = connection.execute(SQL["last_of_line"], arguments, prepare=True).fetchall()
    ahead = {came: number for number, came in enumerate(counted)}
    return {
        job.job_id: max(
            front + 1,
            about_place(
                backlog.lines, backlog.rounds, mine, ahead.get(job.came, _beyond(job.came, counted, last, mine))
            ),
        )
        for job in jobs
    }


def _beyond(came: int, counted: Sequence[int], last: int | None, mine: Line) -> int:
    """How many of its line stand before a job behind the counted ones, as if they had come evenly."""
    if not counted or last is None or last <= counted[-1]:
        return max(0, mine.waiting - 1)
    share = (came - counted[-1]) / (last - counted[-1])
    return round(len(counted) - 1 + min(1.0, max(0.0, share)) * max(0, mine.waiting - len(counted)))
