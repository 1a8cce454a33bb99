"""Waiting and running jobs, for the dispatcher and the reaper, and the seconds that each owner has used."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, LiteralString

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain.envelope import Recorded
from domain.policies.fairness import UNEXPECTED_S, charged, round_begun
from projections.arrays import uuids
from projections.jobs import jobs_touched
from projections.projection import Projection, Row, Rows
from projections.sql import load
from projections.table import Table

SQL = load("queue.sql")

QUEUE_TABLE: Final = Table(
    "queue",
    key=("job_id",),
    others=(
        "owner",
        "pool",
        "job_type",
        "priority",
        "status",
        "attempt",
        "worker",
        "cancel_requested",
        "not_before",
        "deadline",
        "queued_at",
        "started_at",
        "queued_position",
        "cost_s",
    ),
)
TURN_TABLE: Final = Table(
    "turns", key=("pool", "priority", "owner"), others=("waiting", "waiting_s", "used_s", "round_s")
)

Level = tuple[str, int]
"""A pool and a priority: the owners who wait there take turns."""

Place = tuple[str, int, str]
"""A pool, a priority, and an owner."""


def fold(rows: Rows, recorded: Recorded) -> None:
    """Change the row of a job; an ended job leaves the queue."""
    event = recorded.event
    key = str(recorded.stream_id)
    if isinstance(event, facts.JobQueued):
        rows[key] = {
            "job_id": key,
            "owner": event.owner,
            "pool": event.pool,
            "job_type": event.recipe.job_type,
            "priority": event.priority,
            "status": "waiting",
            "attempt": 0,
            "cancel_requested": False,
            "deadline": event.deadline,
            "queued_at": recorded.envelope.at,
            "queued_position": recorded.position,
            "cost_s": event.expected_s or UNEXPECTED_S * event.recipe.quantity,
        }
        return
    row = rows.get(key)
    if row is None:
        return
    match event:
        case facts.JobStarted(attempt=attempt, worker=worker):
            row.update(status="running", attempt=attempt, worker=worker, started_at=recorded.envelope.at)
        case facts.JobRequeued(not_before=not_before):
            row.update(status="waiting", worker=None, started_at=None, not_before=not_before)
        case facts.JobReprioritized(priority=priority):
            row.update(priority=priority)
        case facts.JobCancelRequested():
            row.update(cancel_requested=True)
        case (
            facts.JobSucceeded()
            | facts.JobPartiallySucceeded()
            | facts.JobFailed()
            | facts.JobCanceled()
            | facts.JobAborted()
        ):
            rows[key] = None
        case _:
            pass


class OwnerTurns:
    """Waiting and used seconds of each owner, by pool and priority. See `domain.policies.fairness`."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Place, Row] = {place_of(row): row for row in rows}
        self._rounds: dict[Level, float] = {}
        for row in self._rows.values():
            self._reached(row)

    def fold(self, before: Row | None, after: Row | None) -> None:
        """Count the change of a job's row; None means that it is not in the queue."""
        waited, waits = (one is not None and one["status"] == "waiting" for one in (before, after))
        # A waiting job with a new priority leaves one line and joins another.
        moved = before is not None and after is not None and place_of(before) != place_of(after)
        if before is not None and waited and (moved or not waits):
            self._count(before, -1)
        if after is not None and waits and (moved or not waited):
            self._count(after, +1)
        if before is not None and after is not None and waited and not waits:
            self._charge(after)

    def rows(self) -> list[Row]:
        """The rows to store."""
        return list(self._rows.values())

    def _count(self, job: Row, jobs: int) -> None:
        turns = self._of(job)
        turns["waiting"] += jobs
        turns["waiting_s"] = turns["waiting_s"] + jobs * job["cost_s"] if turns["waiting"] else 0.0

    def _charge(self, job: Row) -> None:
        """Charge the owner for a started attempt. Every attempt takes the workers' time."""
        turns = self._of(job)
        round_s = self._rounds.get(place_of(job)[:2], 0.0)
        turns["used_s"] = charged(turns["used_s"], round_s, job["cost_s"])
        turns["round_s"] = round_begun(turns["used_s"], round_s)
        self._reached(turns)

    def _of(self, job: Row) -> Row:
        place = place_of(job)
        fresh = {"waiting": 0, "waiting_s": 0.0, "used_s": 0.0, "round_s": 0.0}
        return self._rows.setdefault(place, {name: job[name] for name in ("pool", "priority", "owner")} | fresh)

    def _reached(self, turns: Row) -> None:
        level = place_of(turns)[:2]
        self._rounds[level] = max(self._rounds.get(level, 0.0), turns["round_s"])


def place_of(row: Mapping[str, Any]) -> Place:
    """The pool, priority and owner of a job or of a row of turns."""
    return row["pool"], row["priority"], row["owner"]


class Queue:
    """The queue view: each change of a job's row also updates the turns of its owner."""

    name = "queue"
    tables = (QUEUE_TABLE.name, TURN_TABLE.name)
    kinds = ("job",)
    version = 2  # jobs have a cost, and owners have turns

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`. Five statements, for any number of events."""
        keys = {key for event in events for key in jobs_touched(event)}
        if not keys:
            return
        found = cursor.execute(QUEUE_TABLE.load, (uuids(keys),), prepare=True, binary=True).fetchall()
        rows: Rows = {str(key): orjson.loads(row) for key, row in found}
        there = set(rows)
        turns = OwnerTurns(self._turns(events, rows, cursor))
        for event in events:
            key = str(event.stream_id)
            row = rows.get(key)
            before = None if row is None else dict(row)
            fold(rows, event)
            turns.fold(before, rows.get(key))
        self._store(QUEUE_TABLE.store, [row for row in rows.values() if row is not None], cursor)
        removed = [key for key, row in rows.items() if row is None and key in there]
        if removed:
            cursor.execute(QUEUE_TABLE.remove, (removed,), prepare=True)
        self._store(TURN_TABLE.store, turns.rows(), cursor)

    def _turns(self, events: Sequence[Recorded], rows: Rows, cursor: Cursor[TupleRow]) -> list[Row]:
        """The turns of all owners in these events, and of the owner in the last round of each level."""
        lines = {key: place_of(row) for key, row in rows.items() if row is not None}
        places = set(lines.values())
        for recorded in events:
            key, event = str(recorded.stream_id), recorded.event
            if isinstance(event, facts.JobQueued):
                lines[key] = (event.pool, event.priority, event.owner)
                places.add(lines[key])
            elif isinstance(event, facts.JobReprioritized) and key in lines:
                pool, _, owner = lines[key]
                places.add((pool, event.priority, owner))
        if not places:
            return []
        pools, priorities, owners = (list(column) for column in zip(*sorted(places), strict=True))
        arguments = {"pools": pools, "priorities": priorities, "owners": owners}
        found = cursor.execute(SQL["load_turns"], arguments, prepare=True).fetchall()
        return [orjson.loads(row) for (row,) in found]

    def _store(self, statement: LiteralString, rows: Sequence[Row], cursor: Cursor[TupleRow]) -> None:
        if rows:
            cursor.execute(statement, (orjson.dumps(rows).decode(),), prepare=True)


QUEUE: Final[Projection] = Queue()
