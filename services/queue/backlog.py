"""Waiting jobs of a pool, as input of `domain.policies.fairness`: the first of each owner's line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.policies.fairness import Line, WaitingJob, charged
from projections.arrays import int4s, uuids
from projections.sql import load

SQL = load("backlog.sql", "services.queue")

DEPTH: Final = 16
"""Number of jobs read of each line: the order is decided step by step, so the cost does not depend on the backlog."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """A pool: its lines, the start of the current round of each priority, and the jobs at work of each owner.

    `at_work` counts running jobs of all pools and dispatched jobs of this one.
    """

    lines: Sequence[Line]
    rounds: dict[int, float]
    at_work: dict[str, int]


def read_backlog(
    connection: Connection[TupleRow],
    pool: str,
    handed_out: Sequence[tuple[UUID, int]] = (),
    *,
    due: bool,
    depth: int = DEPTH,
    held_too: bool = False,
    passed_over: Sequence[tuple[UUID, int]] = (),
) -> Backlog:
    """The pool without dispatched jobs; their owners are charged already.

    `due`: only jobs that may start now. A held pool hands out nothing; `held_too` ignores the hold.

    Jobs in `passed_over` are left out and not charged. Reads `depth` jobs of each owner and priority by an index.
    """
    arguments = {
        "pool": pool,
        "due": due,
        "held_too": held_too,
        "depth": depth + 1,
        "job_ids": uuids([job_id for job_id, _ in handed_out]),
        "attempts": int4s([attempt for _, attempt in handed_out]),
    }
    left_out = [*handed_out, *passed_over]
    of_lines = arguments | {
        "job_ids": uuids([job_id for job_id, _ in left_out]),
        "attempts": int4s([attempt for _, attempt in left_out]),
    }
    # First dispatched jobs, then running ones: a job that starts in between is counted twice and never missed.
    handed = connection.execute(SQL["handed_out"], arguments, prepare=True).fetchall()
    at_work: dict[str, int] = dict(connection.execute(SQL["at_work"], prepare=True).fetchall())
    rounds: dict[int, float] = dict(connection.execute(SQL["rounds"], arguments, prepare=True).fetchall())
    lines = {}
    found = connection.execute(SQL["lines"], of_lines, prepare=True).fetchall()
    for (owner, priority, used_s, waiting, waiting_s), rows in groupby(found, lambda row: row[:5]):
        jobs = [WaitingJob(*row[5:]) for row in rows if row[5] is not None]
        lines[owner, priority] = Line(owner, priority, used_s, jobs[:depth], len(jobs) > depth, waiting, waiting_s)
    for owner, priority, cost_s in handed:
        at_work[owner] = at_work.get(owner, 0) + 1
        line = lines.get((owner, priority))
        if line is not None:
            used_s = charged(line.used_s, rounds.get(priority, 0.0), cost_s)
            lines[owner, priority] = replace(line, used_s=used_s)
    return Backlog(list(lines.values()), rounds, at_work)
