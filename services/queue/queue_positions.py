"""Places of waiting jobs, in the order in which the dispatcher hands them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.policies.fairness import Line, about_place, in_order
from projections.sql import load
from services.queue.backlog import Backlog, read_backlog

SQL = load("queue_positions.sql", "services.queue")

FRONT: Final = 4
"""Number of jobs per line with exact places; the places of later jobs are estimated."""

COUNTED_MAX: Final = 1_000
"""Number of jobs of a line that are counted one by one; later ones are interpolated by position in the ledger."""


AHEAD_MAX: Final = 500
"""Maximum number of entries for jobs ahead; for more jobs, their total seconds are spread over as many entries."""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The place of a waiting job, from 1, and the expected seconds of the job and of each job ahead of it.

    `is_due`: it could start now; otherwise it waits for its next attempt.
    """

    position: int
    ahead_s: tuple[float, ...]
    cost_s: float
    is_due: bool = True


class _Asked(NamedTuple):
    pool: str
    owner: str
    priority: int
    job_id: UUID
    came: int
    cost_s: float
    is_due: bool


HandedOut = Mapping[str, Sequence[tuple[UUID, int]]]
"""Attempts that workers can already take, by pool: job and number."""


def places_in_queue(
    connection: Connection[TupleRow], job_ids: Sequence[UUID], handed_out: HandedOut = MappingProxyType({})
) -> dict[UUID, QueuePosition]:
    """The place of each waiting job in its pool; jobs that do not wait are left out.

    Dispatched jobs come first, then due jobs in the order of the dispatcher; a job that waits for its next attempt is
    placed as if it were due. Places are exact at the front, and for an owner who waits alone. Deep in a long queue of
    several owners they are estimates, so the cost does not grow with the backlog. The limit of running jobs per owner
    is ignored.
    """
    found = connection.execute(SQL["asked"], (list(job_ids),), prepare=True).fetchall() if job_ids else []
    places: dict[UUID, QueuePosition] = {}
    for pool, asked in groupby(map(_Asked._make, found), lambda job: job.pool):
        jobs = list(asked)
        handed = _handed_out(connection, pool, handed_out.get(pool, ()))
        for due in (True, False):
            places |= _places_of(connection, pool, [job for job in jobs if job.is_due is due], handed, due=due)
    return places


def _handed_out(
    connection: Connection[TupleRow], pool: str, attempts: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], float]:
    """The expected seconds of those that still wait for a worker, oldest first."""
    if not attempts:
        return {}
    arguments = {
        "pool": pool,
        "job_ids": [job_id for job_id, _ in attempts],
        "attempts": [attempt for _, attempt in attempts],
    }
    found = connection.execute(SQL["handed_out"], arguments, prepare=True).fetchall()
    return {(job_id, attempt): cost_s for job_id, attempt, cost_s in found}


def _places_of(
    connection: Connection[TupleRow],
    pool: str,
    jobs: Sequence[_Asked],
    handed: Mapping[tuple[UUID, int], float],
    *,
    due: bool,
) -> dict[UUID, QueuePosition]:
    if not jobs:
        return {}
    backlog = read_backlog(connection, pool, list(handed), due=due, depth=FRONT, held_too=True)
    order = list(in_order(backlog.lines, backlog.rounds, {}))
    costs = [*handed.values(), *(job.cost_s for job in order)]
    places = {job_id: place for place, (job_id, _) in enumerate(handed, start=1)}
    places |= {job.job_id: place for place, job in enumerate(order, start=len(handed) + 1)}
    behind = [job for job in jobs if job.job_id not in places]
    for (owner, priority), line in groupby(behind, lambda job: (job.owner, job.priority)):
        mine = next((one for one in backlog.lines if (one.owner, one.priority) == (owner, priority)), None)
        if mine is not None:  # else it was just handed out
            places |= _behind(connection, pool, mine, list(line), backlog, len(costs))
    waiting = sum(line.waiting for line in backlog.lines)
    mean_s = sum(line.waiting_s for line in backlog.lines) / waiting if waiting else 0.0
    return {
        job.job_id: QueuePosition(places[job.job_id], _ahead_of(places[job.job_id], costs, mean_s), job.cost_s, due)
        for job in jobs
        if job.job_id in places
    }


def _ahead_of(place: int, costs: Sequence[float], mean_s: float) -> tuple[float, ...]:
    ahead = [*costs[: place - 1], *([mean_s] * (place - 1 - len(costs)))]
    if len(ahead) <= AHEAD_MAX:
        return tuple(ahead)
    return (sum(ahead) / AHEAD_MAX,) * AHEAD_MAX


def _behind(
    connection: Connection[TupleRow], pool: str, mine: Line, jobs: Sequence[_Asked], backlog: Backlog, front: int
) -> dict[UUID, int]:
    """Places of the jobs of one line behind the first `front` jobs, which have exact places."""
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
    """The number of jobs of the line before one that is behind the counted ones, assuming even arrivals."""
    if not counted or last is None or last <= counted[-1]:
        return max(0, mine.waiting - 1)
    share = (came - counted[-1]) / (last - counted[-1])
    return round(len(counted) - 1 + min(1.0, max(0.0, share)) * max(0, mine.waiting - len(counted)))
