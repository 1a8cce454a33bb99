"""Batches as the JSON documents of `schemas.py`, from rows and from new decisions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from api.http.errors import problem_document
from api.jobs.documents import listed_asset_document
from domain.commands import NewItem
from domain.errors import FieldProblem
from domain.events import ItemProblem
from domain.json_type import Json
from domain.statuses import ITEM_STATUSES
from projections.reads.batches import BatchRow, ItemRow, PreferenceRow
from projections.reads.jobs import ListedAssetRow


def batch_summary(row: BatchRow) -> Json:
    """`BatchSummary`."""
    return {
        "id": row.batch_id,
        "kind": row.kind,
        "name": row.name,
        "collection": row.collection,
        "base": row.base,
        "prompt": row.prompt,
        "seed": row.seed,
        "counts": {status: row.counts.get(status, 0) for status in ITEM_STATUSES},
        "created_at": row.created_at,
        "urls": {
            "get": f"/v1/batches/{row.batch_id}",
            "cancel": f"/v1/batches/{row.batch_id}/cancel",
            "retry": f"/v1/batches/{row.batch_id}/retry",
        },
    }


def batch_document(
    row: BatchRow,
    items: Sequence[ItemRow],
    assets: Mapping[UUID, Sequence[ListedAssetRow]],
    preferences: Sequence[PreferenceRow],
) -> Json:
    """`Batch`."""
    index_of = {
        asset.asset_id: item.index for item in items for job_id in item.jobs for asset in assets.get(job_id, ())
    }
    return batch_summary(row) | {
        "items": [_item(item, assets) for item in items],
        "preferences": [_preference(preference, index_of) for preference in preferences],
    }


def accepted_document(row: BatchRow, items: Iterable[NewItem]) -> Json:
    """`BatchAccepted`."""
    return batch_summary(row) | {"items": accepted_items(items)}


def accepted_items(items: Iterable[NewItem]) -> list[Json]:
    """`SavedItem` or `RejectedItem` of each."""
    return [
        {"index": item.index, "template": item.template, "saved": True, "job_id": item.job_id}
        if item.problem is None
        else {"index": item.index, "template": item.template, "saved": False, "error": item_problem(item.problem)}
        for item in items
    ]


def item_problem(problem: ItemProblem) -> Json:
    """`Problem` of an item."""
    return problem_document(problem.code, problem.detail, [FieldProblem(*each) for each in problem.problems])


def _item(item: ItemRow, assets: Mapping[UUID, Sequence[ListedAssetRow]]) -> Json:
    """The completed assets of earlier jobs come first, then all of the last job: a retry makes only lost outputs."""
    document: dict[str, Any] = {"index": item.index, "template": item.template, "status": item.status}
    if item.problem is not None:
        return document | {"saved": False, "error": item_problem(ItemProblem.model_validate(item.problem))}
    shown = [
        listed_asset_document(asset)
        for job_id in item.jobs
        for asset in assets.get(job_id, ())
        if job_id == item.job_id or asset.status == "completed"
    ]
    return document | {"saved": True, "job_id": item.job_id, "jobs": item.jobs, "assets": shown}


def _preference(row: PreferenceRow, index_of: Mapping[UUID, int]) -> Json:
    return {
        "winner": row.winner,
        "loser": row.loser,
        "winner_index": index_of.get(row.winner),
        "loser_index": index_of.get(row.loser),
        "blind": row.blind,
        "at": row.at,
    }
