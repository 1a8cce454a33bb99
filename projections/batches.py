"""Batches and comparisons with their items and each item's status: GET /v1/batches and /v1/batches/{id}."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain.aggregates.job import ENDED_AS
from domain.codec import NAMES
from domain.envelope import Recorded
from domain.events import Event
from projections.projection import Projection, Row
from projections.sql import column_list, load
from projections.table import Table

BATCH_TABLE: Final = Table(
    "batches",
    key=("batch_id",),
    others=("owner", "kind", "name", "collection", "base", "prompt", "seed", "created_at", "opened_position"),
)
"""Two further columns, `counts` and `words`, are computed by statements of their own."""

ITEM_TABLE: Final = Table(
    "batch_items",
    key=("batch_id", "index"),
    others=("owner", "template", "status", "job_id", "jobs", "problem"),
)
PREFERENCE_TABLE: Final = Table(
    "batch_preferences",
    key=("batch_id", "one", "other"),
    others=("owner", "winner", "blind", "at", "position"),
)

SQL = load("batches.sql", items=column_list(ITEM_TABLE.columns))

STATUS_AFTER: Final[Mapping[type[Event], str]] = {
    facts.JobStarted: "processing",
    facts.JobRequeued: "queued",
    **ENDED_AS,
}
"""Status of a job and its item after an event; other events leave the status unchanged."""


@dataclass(slots=True)
class _Changes:
    """Changes by a range of events, in ledger order; a later value replaces an earlier one."""

    opened: list[Row] = field(default_factory=list)
    names: dict[UUID, str] = field(default_factory=dict)
    items: dict[tuple[UUID, int], Row] = field(default_factory=dict)
    preferences: dict[tuple[UUID, UUID, UUID], Row] = field(default_factory=dict)
    statuses: dict[UUID, str] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        """Add one event."""
        event, batch_id = recorded.event, recorded.stream_id
        match event:
            case facts.BatchOpened():
                self.opened.append(_opened(event, recorded))
            case facts.BatchRenamed(name=name):
                self.names[batch_id] = name
            case facts.BatchItemAdded(index=index):
                self.items[batch_id, index] = _item(event, recorded, self.items.get((batch_id, index)))
            case facts.BatchPreferred(winner=winner, loser=loser):
                one, other = sorted((winner, loser))
                self.preferences[batch_id, one, other] = _preference(event, recorded, one, other)
            case _:
                status = STATUS_AFTER.get(type(event))
                if status is not None:
                    self.statuses[recorded.stream_id] = status


class Batches:
    """The batches view. Job events do not name a batch: items are found by their job's id.

    The counts of a batch with changed items are recomputed, so the cost does not depend on how many changed.
    """

    name = "batches"
    tables = (BATCH_TABLE.name, ITEM_TABLE.name, PREFERENCE_TABLE.name)
    kinds = ("batch", *(NAMES[kind] for kind in STATUS_AFTER))
    version = 2  # finds emoji and words of scripts without spaces

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`. An item precedes all events of its job: both are in one commit."""
        changes = _Changes()
        for event in events:
            changes.take(event)
        for statement, rows in (
            (BATCH_TABLE.insert, changes.opened),
            (SQL["add_items"], list(changes.items.values())),
            (PREFERENCE_TABLE.store, list(changes.preferences.values())),
        ):
            if rows:
                cursor.execute(statement, (orjson.dumps(rows).decode(),), prepare=True)
        if changes.names:
            renamed = {"batches": list(changes.names), "names": list(changes.names.values())}
            cursor.execute(SQL["rename"], renamed, prepare=True)
        added = {batch_id for batch_id, _ in changes.items}
        moved = added | _move(changes.statuses, cursor)
        if moved:
            cursor.execute(SQL["count"], (list(moved),), prepare=True)
        reworded = added.union(changes.names, (row["batch_id"] for row in changes.opened))
        if reworded:
            cursor.execute(SQL["index_words"], (list(reworded),), prepare=True)


def _move(statuses: Mapping[UUID, str], cursor: Cursor[TupleRow]) -> set[UUID]:
    """Set the items of these jobs to the jobs' statuses; return the batches that changed."""
    if not statuses:
        return set()
    moved = {"jobs": list(statuses), "statuses": list(statuses.values())}
    return {batch_id for (batch_id,) in cursor.execute(SQL["move"], moved, prepare=True).fetchall()}


def _opened(event: facts.BatchOpened, recorded: Recorded) -> Row:
    return {
        "batch_id": recorded.stream_id,
        "owner": event.owner,
        "kind": event.kind,
        "name": event.name,
        "collection": event.collection,
        "base": event.base,
        "prompt": event.prompt,
        "seed": event.seed,
        "created_at": recorded.envelope.at,
        "opened_position": recorded.position,
    }


def _item(event: facts.BatchItemAdded, recorded: Recorded, before: Row | None) -> Row:
    jobs = [] if before is None else before["jobs"]
    return {
        "batch_id": recorded.stream_id,
        "owner": recorded.envelope.owner,
        "index": event.index,
        "template": event.template,
        "status": "rejected" if event.job_id is None else "queued",
        "job_id": event.job_id,
        "jobs": jobs if event.job_id is None else [*jobs, event.job_id],
        "problem": recorded.data["problem"],
    }


def _preference(event: facts.BatchPreferred, recorded: Recorded, one: UUID, other: UUID) -> Row:
    return {
        "batch_id": recorded.stream_id,
        "owner": recorded.envelope.owner,
        "one": one,
        "other": other,
        "winner": event.winner,
        "blind": event.blind,
        "at": recorded.envelope.at,
        "position": recorded.position,
    }


BATCHES: Final[Projection] = Batches()
