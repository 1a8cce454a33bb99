"""Completed assets, newest first and searchable."""

from typing import Final

from domain import events as facts
from domain.envelope import Recorded
from projections.asset_rows import ASSET_COLUMNS, JOB_COLUMNS, assets_touched, fold_into, rows_of_queued_job
from projections.projection import FoldedTable, FoldedView, Projection, Rows
from projections.sql import assignments, column_list, load
from projections.table import Table

SEARCHED: Final = ("prompt", "title", "tags")
"""Columns of which Postgres computes the search index of a row."""

LIBRARY_TABLE: Final = Table("library", key=("asset_id",), others=(*ASSET_COLUMNS, *JOB_COLUMNS, "completed_position"))

SQL = load(
    "library.sql",
    columns=column_list(LIBRARY_TABLE.columns),
    searched=column_list(SEARCHED, "l"),
    searched_given=column_list(SEARCHED, "g"),
    unsearched_changes=assignments([name for name in LIBRARY_TABLE.others if name not in SEARCHED], "g"),
    changes=assignments(LIBRARY_TABLE.others, "excluded"),
)


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
    (FoldedTable(LIBRARY_TABLE, assets_touched, fold, store=SQL["store"]),),
    kinds=("job.queued", "asset"),
    version=2,
)
