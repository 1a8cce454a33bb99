"""What waits in a pool, as the policy of `domain.fairness` wants to know it: the front of each owner's line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.fairness import Line, WaitingJob, charged
from projections.arrays import int4s, uuids
from projections.sql import load

SQL = load("lines.sql", "services")

DEPTH: Final = 16
"""Jobs read of each line: who is next is decided step by step, and a backlog of any length costs the same."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """A pool: its lines, where the present round of each priority begins, and how many jobs of each owner are at work.

    `at_work` counts over all pools, and what is handed out in this one.
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
    """The pool without what is handed out, for which its owner is charged already.

    `due`: only what may start now. Nothing is handed out of a pool that an operator holds back; `held_too`: as if
    none were.

    What is `passed_over` is left out, and costs its owner nothing. Reads `depth` jobs of each owner and
    priority by an index.
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
    # What is handed out first, what runs then: a job that is started in between counts twice rather than not at all.
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
