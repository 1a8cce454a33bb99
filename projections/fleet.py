"""Holds by operators: pools and workers that take no further job until they are resumed."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain import events as facts
from domain.aggregates.fleet import Hold
from domain.envelope import Recorded
from projections.projection import FoldedTable, FoldedView, Projection, Row, Rows
from projections.table import Table

HOLD_TABLE: Final = Table(
    "holds", key=("stream_id",), others=("owner", "kind", "name", "hold", "reason", "actor", "since")
)


def touched(event: Recorded) -> Sequence[UUID]:
    """The pool or worker that an event is about."""
    return [event.stream_id]


def fold(rows: Rows, recorded: Recorded) -> None:
    """The last event counts."""
    key = str(recorded.stream_id)
    match recorded.event:
        case facts.PoolPaused(pool=name, reason=reason):
            rows[key] = _held(recorded, "pool", name, Hold.PAUSED, reason)
        case facts.PoolDrained(pool=name, reason=reason):
            rows[key] = _held(recorded, "pool", name, Hold.DRAINED, reason)
        case facts.WorkerPaused(worker=name, reason=reason):
            rows[key] = _held(recorded, "worker", name, Hold.PAUSED, reason)
        case facts.WorkerDrained(worker=name, reason=reason):
            rows[key] = _held(recorded, "worker", name, Hold.DRAINED, reason)
        case facts.PoolResumed() | facts.WorkerResumed():
            rows[key] = None
        case _:
            pass


def _held(recorded: Recorded, kind: str, name: str, hold: Hold, reason: str | None) -> Row:
    return {
        "stream_id": str(recorded.stream_id),
        "owner": recorded.envelope.owner,
        "kind": kind,
        "name": name,
        "hold": hold,
        "reason": reason,
        "actor": recorded.envelope.actor,
        "since": recorded.envelope.at,
    }


FLEET: Final[Projection] = FoldedView("fleet", (FoldedTable(HOLD_TABLE, touched, fold),), kinds=("pool", "worker"))
