"""How events change a row about an asset; shared by `jobs`, `workspace` and `library`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from domain import events as facts
from domain.envelope import Recorded
from domain.events import Event
from domain.recipes.recipe import asset_id
from domain.wording.text import normalized_tags
from projections.projection import Row, Rows

ASSET_COLUMNS: Final = (
    "job_id",
    "owner",
    "index",
    "seed",
    "kind",
    "bucket",
    "path",
    "status",
    "media_type",
    "bytes",
    "sha256",
    "width",
    "height",
    "rating",
    "saved",
    "title",
    "tags",
    "trashed",
    "completed_at",
    "thumbnail_sha256",
    "thumbnail_path",
    "thumbnail_bytes",
)
"""Columns of every table about assets, in addition to its key `asset_id`."""

JOB_COLUMNS: Final = ("prompt", "job_type", "model", "task", "batch_id")
"""Columns with the facts of an asset's job that lists show."""


def assets_touched(event: Recorded) -> Sequence[UUID]:
    """The assets whose rows an event changes: its own, or all of a queued job."""
    if isinstance(event.event, facts.JobQueued):
        return [asset_id(event.stream_id, index) for index in range(event.event.recipe.quantity)]
    return [event.stream_id] if event.name.startswith("asset.") else []


def rows_of_queued_job(queued: Recorded, job: facts.JobQueued) -> Iterable[tuple[str, Row]]:
    """A row for each asset of the job, with the facts of the job that lists show."""
    recipe = job.recipe
    for index in range(recipe.quantity):
        identifier = str(asset_id(queued.stream_id, index))
        yield (
            identifier,
            {
                "asset_id": identifier,
                "job_id": str(queued.stream_id),
                "owner": job.owner,
                "index": index,
                "prompt": recipe.prompt,
                "job_type": recipe.job_type,
                "model": recipe.model,
                "task": recipe.task,
                "batch_id": None if job.batch_id is None else str(job.batch_id),
                "status": "reserved",
                "saved": False,
                "tags": [],
                "trashed": False,
            },
        )


def reserved(event: facts.AssetReserved) -> Row:
    """The columns that a reservation sets."""
    return {
        "seed": event.seed,
        "kind": event.kind,
        "bucket": event.bucket,
        "path": event.path,
        "title": event.title,
        "tags": list(normalized_tags(event.tags)),
    }


def change(row: Row, recorded: Recorded) -> None:
    """Apply an event to the row of its asset."""
    columns = _COLUMNS.get(type(recorded.event))
    if columns is not None:
        row.update(columns(recorded.event, recorded))


def fold_into(rows: Rows, recorded: Recorded) -> Row | None:
    """The row of the event's asset after the event; None for an event of something else.

    Raises `LookupError` when there is no row: the job is parked, so its assets must be parked too, or they would miss
    events.
    """
    if not recorded.name.startswith("asset."):
        return None
    row = rows.get(str(recorded.stream_id))
    if row is None:
        raise LookupError("there is no row for this asset: its job is missing here")
    change(row, recorded)
    return row


def _completed(event: Any, recorded: Recorded) -> Row:
    return {
        "status": "completed",
        "media_type": event.media_type,
        "bytes": event.bytes,
        "sha256": event.sha256,
        "width": event.width,
        "height": event.height,
        "completed_at": recorded.envelope.at,
    }


_COLUMNS: dict[type[Event], Callable[[Any, Recorded], Row]] = {
    facts.AssetReserved: lambda event, _: reserved(event),
    facts.AssetCompleted: _completed,
    facts.AssetFailed: lambda _, recorded: {"status": "failed", "error": recorded.data["error"]},
    facts.AssetCanceled: lambda *_: {"status": "canceled"},
    facts.AssetThumbnailed: lambda event, _: {
        "thumbnail_sha256": event.sha256,
        "thumbnail_path": event.path,
        "thumbnail_bytes": event.bytes,
    },
    facts.AssetRated: lambda event, _: {"rating": event.score},
    facts.AssetTitled: lambda event, _: {"title": event.title},
    facts.AssetTagged: lambda event, _: {"tags": list(normalized_tags(event.tags))},
    facts.AssetSaved: lambda *_: {"saved": True},
    facts.AssetUnsaved: lambda *_: {"saved": False},
    facts.AssetTrashed: lambda *_: {"trashed": True},
    facts.AssetRestored: lambda *_: {"trashed": False},
    facts.AssetPurged: lambda *_: {
        "status": "purged",
        "thumbnail_sha256": None,
        "thumbnail_path": None,
        "thumbnail_bytes": None,
    },
}
