"""Jobs that wait or run: what the dispatcher hands out and the reaper watches."""

from typing import Final

from domain import events as facts
from domain.envelope import Recorded
from projections.jobs import jobs_touched
from projections.projection import FoldedTable, FoldedView, Projection, Rows
from projections.sql import load


def fold(rows: Rows, recorded: Recorded) -> None:
    """A job that ended leaves the queue."""
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


QUEUE: Final[Projection] = FoldedView(
    "queue", (FoldedTable("queue", "job_id", jobs_touched, fold, load("queue.sql")),), aggregates=("job",)
)
