"""Completed assets, newest first and searchable."""

from typing import Final

from domain import events as facts
from domain.envelope import Recorded
from projections.asset_rows import assets_touched, fold_into, rows_of_queued_job
from projections.projection import FoldedTable, FoldedView, Projection, Rows
from projections.sql import load


def fold(rows: Rows, recorded: Recorded) -> None:
    """An asset that failed, was canceled or was purged leaves the view."""
    if isinstance(recorded.event, facts.JobQueued):
        rows.update(rows_of_queued_job(recorded, recorded.event))
        return
    if isinstance(recorded.event, facts.AssetDismissed):
        return  # also for an asset that left
    changed = fold_into(rows, recorded)
    if isinstance(recorded.event, facts.AssetFailed | facts.AssetCanceled | facts.AssetPurged):
        rows[str(recorded.stream_id)] = None
    elif changed is not None and isinstance(recorded.event, facts.AssetCompleted):
        changed["completed_position"] = recorded.position


LIBRARY: Final[Projection] = FoldedView(
    "library",
    (FoldedTable("library", "asset_id", assets_touched, fold, load("library.sql")),),
    kinds=("job.queued", "asset"),
    version=2,
)
