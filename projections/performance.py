"""Actual and expected durations of jobs: GET /v1/admin/performance and the sums of GET /metrics."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain import events as facts
from domain.codec import NAMES
from domain.envelope import Recorded
from projections.jobs import jobs_touched
from projections.projection import FoldedTable, FoldedView, Projection, Row, Rows
from projections.table import Table

PERFORMANCE_TABLE: Final = Table(
    "performance",
    key=("job_id",),
    others=(
        "owner",
        "job_type",
        "model",
        "pool",
        "quantity",
        "status",
        "attempts",
        "oldest_attempt",
        "queued_at",
        "started_at",
        "last_started_at",
        "finished_at",
        "expected_s",
        "peak_memory_bytes",
    ),
)


def touched(event: Recorded) -> Sequence[UUID]:
    """The job of an event. Of an asset's events only its completion counts, with the job as its correlation id."""
    if isinstance(event.event, facts.AssetCompleted):
        return [event.envelope.correlation_id]
    return jobs_touched(event)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Change the row of a job. The table itself computes seconds and ratio.

    Raises `LookupError` for an asset without a row: its job is parked, so its completion must be parked too.
    """
    event = recorded.event
    if isinstance(event, facts.JobQueued):
        rows[str(recorded.stream_id)] = _queued(event, recorded)
        return
    if isinstance(event, facts.AssetCompleted):
        made = rows.get(str(recorded.envelope.correlation_id))
        if made is None:
            raise LookupError("there is no row for this asset's job: the job is missing here")
        _made(made, event)
        return
    row = rows.get(str(recorded.stream_id))
    if row is None:
        return
    match event:
        case facts.JobStarted(attempt=attempt):
            at = recorded.envelope.at
            row.update(
                status="processing", attempts=attempt, started_at=row.get("started_at") or at, last_started_at=at
            )
        case facts.JobRequeued():
            row.update(status="queued", last_started_at=None)
        case (
            facts.JobSucceeded()
            | facts.JobPartiallySucceeded()
            | facts.JobFailed()
            | facts.JobCanceled()
            | facts.JobAborted()
        ):
            row.update(status=recorded.name.removeprefix("job."), finished_at=recorded.envelope.at)
        case _:
            pass


def _queued(event: facts.JobQueued, recorded: Recorded) -> Row:
    return {
        "job_id": str(recorded.stream_id),
        "owner": event.owner,
        "job_type": event.recipe.job_type,
        "model": event.recipe.model,
        "pool": event.pool,
        "quantity": event.recipe.quantity,
        "status": "queued",
        "attempts": 0,
        "queued_at": recorded.envelope.at,
        "expected_s": event.expected_s,
    }


def _made(row: Row, event: facts.AssetCompleted) -> None:
    """Keep maximum and minimum, not the last value, so that the order of asset events does not matter."""
    attempt, peak = row.get("oldest_attempt"), row.get("peak_memory_bytes")
    row["oldest_attempt"] = event.attempt if attempt is None else min(attempt, event.attempt)
    if event.peak_memory_bytes is not None:
        row["peak_memory_bytes"] = max(peak or 0, event.peak_memory_bytes)


PERFORMANCE: Final[Projection] = FoldedView(
    "performance",
    (FoldedTable(PERFORMANCE_TABLE, touched, fold),),
    kinds=("job", NAMES[facts.AssetCompleted]),
)
