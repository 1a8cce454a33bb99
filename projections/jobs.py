"""Jobs and their assets in every status: GET /v1/jobs, /v1/jobs/{id} and /v1/assets/{id}."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain import events as facts
from domain.envelope import Recorded
from domain.wording.text import normalized_tags
from projections.asset_rows import ASSET_COLUMNS, change, reserved
from projections.projection import FoldedTable, FoldedView, Projection, Rows
from projections.table import Table

JOB_TABLE: Final = Table(
    "jobs",
    key=("job_id",),
    others=(
        "owner",
        "status",
        "pool",
        "recipe",
        "job_type",
        "priority",
        "batch_id",
        "parent_id",
        "tags",
        "attempt",
        "error",
        "cancel_requested",
        "created_at",
        "started_at",
        "finished_at",
        "queued_position",
        "enhanced_prompt",
        "warnings",
    ),
)
ASSET_TABLE: Final = Table("assets", key=("asset_id",), others=(*ASSET_COLUMNS, "error"))


def jobs_touched(event: Recorded) -> Sequence[UUID]:
    """The job whose row an event changes."""
    return [event.stream_id] if event.name.startswith("job.") else []


def fold_job(rows: Rows, recorded: Recorded) -> None:
    """Change the row of a job."""
    event = recorded.event
    key = str(recorded.stream_id)
    if isinstance(event, facts.JobQueued):
        rows[key] = {
            "job_id": key,
            "owner": event.owner,
            "status": "queued",
            "pool": event.pool,
            "recipe": recorded.data["recipe"],
            "job_type": event.recipe.job_type,
            "priority": event.priority,
            "batch_id": recorded.data["batch_id"],
            "parent_id": recorded.data["parent_id"],
            "tags": list(normalized_tags(event.tags)),
            "attempt": 0,
            "cancel_requested": False,
            "created_at": recorded.envelope.at,
            "queued_position": recorded.position,
        }
        return
    row = rows.get(key)
    if row is None:
        return
    match event:
        case facts.JobStarted(attempt=attempt):
            started_at = row.get("started_at") or recorded.envelope.at
            row.update(status="processing", attempt=attempt, started_at=started_at, error=None)
        case facts.JobPromptEnhanced(enhanced=enhanced):
            row.update(enhanced_prompt=enhanced)
        case facts.JobWarned(code=code, detail=detail):
            row.update(warnings=[*(row.get("warnings") or []), {"code": code, "detail": detail}])
        case facts.JobRequeued():
            row.update(status="queued", error=recorded.data["error"])
        case facts.JobReprioritized(priority=priority):
            row.update(priority=priority)
        case facts.JobCancelRequested():
            row.update(cancel_requested=True)
        case facts.JobFailed():
            row.update(status="failed", error=recorded.data["error"], finished_at=recorded.envelope.at)
        case facts.JobSucceeded() | facts.JobPartiallySucceeded() | facts.JobCanceled() | facts.JobAborted():
            row.update(status=recorded.name.removeprefix("job."), finished_at=recorded.envelope.at)
        case _:
            pass


def assets_of_events(event: Recorded) -> Sequence[UUID]:
    """The asset whose row an event changes."""
    return [event.stream_id] if event.name.startswith("asset.") else []


def fold_asset(rows: Rows, recorded: Recorded) -> None:
    """Change the row of an asset."""
    key = str(recorded.stream_id)
    if isinstance(recorded.event, facts.AssetReserved):
        rows[key] = {
            "asset_id": key,
            "job_id": str(recorded.event.job_id),
            "owner": recorded.event.owner,
            "index": recorded.event.index,
            "status": "reserved",
            "saved": False,
            "tags": [],
            "trashed": False,
            **reserved(recorded.event),
        }
        return
    row = rows.get(key)
    if row is not None:
        change(row, recorded)


JOBS: Final[Projection] = FoldedView(
    "jobs",
    (FoldedTable(JOB_TABLE, jobs_touched, fold_job), FoldedTable(ASSET_TABLE, assets_of_events, fold_asset)),
    kinds=("job", "asset"),
    version=2,
)
