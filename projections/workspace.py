"""The user's current work: assets in progress or under review."""

from typing import Final

from domain import events as facts
from domain.envelope import Recorded
from projections.asset_rows import ASSET_COLUMNS, JOB_COLUMNS, assets_touched, fold_into, rows_of_queued_job
from projections.projection import FoldedTable, FoldedView, Projection, Rows
from projections.table import Table

WORKSPACE_TABLE: Final = Table(
    "workspace",
    key=("asset_id",),
    others=(*ASSET_COLUMNS, *JOB_COLUMNS, "error", "dismissed", "queued_position"),
)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Dismissed and trashed assets keep a hidden row, so that a restored one comes back unchanged.

    A purged asset is removed.
    """
    if isinstance(recorded.event, facts.JobQueued):
        for identifier, row in rows_of_queued_job(recorded, recorded.event):
            rows[identifier] = {**row, "dismissed": False, "queued_position": recorded.position}
        return
    changed = fold_into(rows, recorded)
    if changed is not None and isinstance(recorded.event, facts.AssetDismissed):
        changed["dismissed"] = True
    elif isinstance(recorded.event, facts.AssetPurged):
        rows[str(recorded.stream_id)] = None


WORKSPACE: Final[Projection] = FoldedView(
    "workspace",
    (FoldedTable(WORKSPACE_TABLE, assets_touched, fold),),
    kinds=("job.queued", "asset"),
)
