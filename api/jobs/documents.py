"""Rows and events as the JSON documents of `schemas.py`. Plain dictionaries, which orjson encodes directly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

from domain.aggregates.asset import Curation
from domain.aggregates.media import media_id
from domain.commands import SubmitJob
from domain.envelope import Recorded
from domain.events import MediaUploaded
from domain.json_type import Json
from domain.recipes.cautions import cautions_for
from domain.recipes.recipe import asset_id
from domain.wording.text import normalized_tags
from projections.jobs import fold_asset, fold_job
from projections.reads.jobs import AssetRow, HistoryRow, JobRow, ListedAssetRow
from services.messaging.wire import Progress


def content_url(identifier: UUID) -> str:
    """The URL of an asset's file."""
    return f"/v1/assets/{identifier}/content"


def thumbnail_url(identifier: UUID) -> str:
    """The URL of an asset's thumbnail."""
    return f"/v1/assets/{identifier}/thumbnail"


def asset_document(row: AssetRow) -> Json:
    """`Asset`."""
    return {
        "id": row.asset_id,
        "job_id": row.job_id,
        "index": row.index,
        "status": row.status,
        "kind": row.kind,
        "seed": row.seed,
        "url": content_url(row.asset_id) if row.status == "completed" else None,
        "thumbnail_url": thumbnail_url(row.asset_id) if row.thumbnail_sha256 is not None else None,
        "media_type": row.media_type,
        "width": row.width,
        "height": row.height,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "rating": row.rating,
        "saved": row.saved,
        "title": row.title,
        "tags": row.tags,
        "error": _error(row.error),
        "completed_at": row.completed_at,
    }


def listed_asset_document(row: ListedAssetRow) -> Json:
    """`ListedAsset`."""
    return asset_document(row) | {
        "prompt": row.prompt,
        "job_type": row.job_type,
        "model": row.model,
        "task": row.task,
        "batch_id": row.batch_id,
    }


def curated(document: Json, curation: Curation) -> Json:
    """The document after a write that its view may not include yet."""
    return document | {
        "rating": curation.rating,
        "saved": curation.saved,
        "title": curation.title,
        "tags": curation.tags,
    }


def job_document(
    row: JobRow, assets: Sequence[AssetRow], *, progress: Progress | None = None, queue: Json | None = None
) -> Json:
    """`Job`."""
    recipe = row.recipe
    return {
        "id": row.job_id,
        "status": row.status,
        "job_type": recipe["job_type"],
        "model": recipe["model"],
        "task": recipe["task"],
        "prompt": recipe["prompt"],
        "enhanced_prompt": row.enhanced_prompt,
        "negative_prompt": recipe["negative_prompt"],
        "params": recipe["params"],
        "quantity": row.quantity,
        "seed": recipe["seeds"][0],
        "references": recipe["references"],
        "media": recipe["media"],
        "warnings": [*(asdict(caution) for caution in cautions_for(recipe)), *(row.warnings or [])],
        "batch_id": row.batch_id,
        "parent_id": row.parent_id,
        "priority": row.priority,
        "tags": row.tags,
        "attempt": row.attempt,
        "progress": None if progress is None else {"step": progress.step, "total": progress.total},
        "queue": queue,
        "error": _error(row.error),
        "assets": [asset_document(asset) for asset in assets],
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "urls": {
            "get": f"/v1/jobs/{row.job_id}",
            "cancel": f"/v1/jobs/{row.job_id}/cancel",
            "history": f"/v1/jobs/{row.job_id}/history",
            "inputs": f"/v1/jobs/{row.job_id}/inputs",
        },
    }


def new_job_document(command: SubmitJob) -> Json:
    """`Job` of a job that was just submitted, without any query."""
    row = JobRow(
        job_id=command.job_id,
        owner=command.owner,
        status="queued",
        pool=command.pool,
        recipe=command.recipe.model_dump(),
        priority=command.priority,
        batch_id=command.batch_id,
        parent_id=command.parent_id,
        tags=list(normalized_tags(command.tags)),
        attempt=0,
        error=None,
        created_at=command.now,
        started_at=None,
        finished_at=None,
        queued_position=0,
        enhanced_prompt=None,
    )
    assets = [_reserved(command, index, seed) for index, seed in enumerate(command.recipe.seeds)]
    return job_document(row, assets)


def rows_from_ledger(events: Iterable[Recorded]) -> tuple[JobRow, list[AssetRow]] | None:
    """The view's future rows for these events of one job and its assets; None if the job's first event is missing."""
    jobs: dict[str, Json | None] = {}
    assets: dict[str, Json | None] = {}
    for event in events:
        if event.name.startswith("job."):
            fold_job(jobs, event)
        else:
            fold_asset(assets, event)
    job = next(iter(jobs.values()), None)
    if job is None:
        return None
    found = [_asset_row(asset) for asset in assets.values() if asset is not None]
    return _job_row(job), sorted(found, key=lambda asset: asset.index)


def media_document(uploaded: MediaUploaded) -> Json:
    """`Upload`."""
    identifier = media_id(uploaded.owner, uploaded.sha256)
    return {
        "id": identifier,
        "kind": uploaded.kind,
        "media_type": uploaded.media_type,
        "bytes": uploaded.bytes,
        "sha256": uploaded.sha256,
        "width": uploaded.width,
        "height": uploaded.height,
        "url": f"/v1/uploads/{identifier}/content",
    }


def history_document(row: HistoryRow) -> Json:
    """`HistoryItem` of a row."""
    return {
        "position": row.position,
        "stream": row.stream_id,
        "version": row.version,
        "type": row.type,
        "at": row.at,
        "actor": row.actor,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
        "data": row.data,
    }


def history_item_of_event(event: Recorded) -> Json:
    """`HistoryItem` of an event: the same as that of its row."""
    envelope = event.envelope
    return {
        "position": event.position,
        "stream": event.stream_id,
        "version": event.version,
        "type": event.name,
        "at": envelope.at,
        "actor": envelope.actor,
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "data": event.data,
    }


def _error(error: Json | None) -> Json | None:
    """`FailureDocument`: the stack and other details for repair stay in the history."""
    return None if error is None else {name: error[name] for name in ("error_class", "message")}


def _reserved(command: SubmitJob, index: int, seed: int) -> AssetRow:
    return AssetRow(
        asset_id=asset_id(command.job_id, index),
        job_id=command.job_id,
        owner=command.owner,
        index=index,
        seed=seed,
        kind=command.kind,
        path="",
        status="reserved",
        media_type=None,
        bytes=None,
        sha256=None,
        width=None,
        height=None,
        error=None,
        rating=None,
        saved=False,
        title=command.title,
        tags=list(normalized_tags(command.tags)),
        completed_at=None,
        thumbnail_sha256=None,
        thumbnail_path=None,
        thumbnail_bytes=None,
    )


def _job_row(folded: Mapping[str, Any]) -> JobRow:
    values: Json = {field.name: folded.get(field.name) for field in fields(JobRow)}
    for name in ("job_id", "batch_id", "parent_id"):
        values[name] = None if values[name] is None else UUID(values[name])
    return JobRow(**values)


def _asset_row(folded: Mapping[str, Any]) -> AssetRow:
    values: Json = {field.name: folded.get(field.name) for field in fields(AssetRow)}
    return AssetRow(**values | {"asset_id": UUID(values["asset_id"]), "job_id": UUID(values["job_id"])})
