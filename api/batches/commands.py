"""Commands on batches: open, run again, prefer. Everything here blocks; `routes.py` holds the routes."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from api.batches.again import Again, lost_again, named, problem_of, started_under, these_again
from api.batches.bodies import envelope_of
from api.batches.documents import accepted_document, accepted_items
from api.batches.intake import Intake
from api.http.idempotency import KeyedContext, RequestContext, sha256_in_parts, sha256_of
from api.jobs.sources import Files
from api.jobs.submission import retry_of
from api.state import Parts
from domain.aggregates.asset import Completed, job_of, status_of
from domain.aggregates.batch import Opened, batch_id, rerun_job_id
from domain.aggregates.job import NotSubmitted
from domain.commands import NewItem, OpenBatch, PreferAsset, RunItemsAgain
from domain.envelope import Recorded
from domain.errors import AssetNotCompleted, BatchMovedOn, IdempotencyKeyReused, NoItemToRetry, NotFound
from domain.json_type import Json
from projections.reads import batches as batch_reads
from projections.reads.batches import BatchRow
from services.database import Unavailable
from services.ledger import BATCH, Context

log = logging.getLogger(__name__)

TRIES_MAX: Final = 5
"""Maximum attempts: if a file is deleted or an item is run again after it was checked, check again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The document of an answer; `new` is False if the request is a repeat."""

    document: Json
    position: int
    new: bool


def open_batch(parts: Parts, asked: KeyedContext, content: Json) -> Answered:
    """Accept a batch: it and its jobs are one commit. The same key and body again: the same batch in its current state.

    Raises `InvalidInput` only for the envelope, and `IdempotencyKeyReused`.
    """
    envelope = envelope_of(content)
    request_sha256 = sha256_in_parts(content, "variants" if envelope.kind == "comparison" else "items")
    identifier = batch_id(asked.owner, asked.key)
    if not asked.key_is_new:
        repeated = _repeated(parts, asked.owner, identifier, request_sha256)
        if repeated is not None:
            return repeated
    for _ in range(TRIES_MAX):
        files = Files(asked.owner, parts.ledger)
        items, jobs = Intake(identifier, envelope, asked, parts.catalog, files).take()
        command = OpenBatch(
            owner=asked.owner,
            kind=envelope.kind,
            name=envelope.name,
            items=tuple(items),
            now=asked.now,
            collection=envelope.collection,
            base=envelope.base,
            prompt=envelope.shared.get("prompt"),
            seed=envelope.shared.get("seed"),
            request_sha256=request_sha256,
        )
        try:
            executed = parts.ledger.execute(BATCH, identifier, command, _by(asked.owner), jobs)
        except NotFound as missing:  # an upload was deleted since it was checked
            log.info("a batch is looked at once more: %s", missing)
            continue
        batch = executed.state
        if not executed.decision or not isinstance(batch, Opened):
            break
        return Answered(_accepted(identifier, asked, batch, items), executed.position, new=True)
    repeated = _repeated(parts, asked.owner, identifier, request_sha256)
    if repeated is None:
        raise Unavailable("Files that this batch starts from are being deleted; try again.")
    return repeated


def run_again(parts: Parts, asked: RequestContext, identifier: UUID, indexes: Sequence[int] | None) -> Answered:
    """Run items again: the requested ones, or all with lost outputs.

    Raises `NoItemToRetry` and `IdempotencyKeyReused`.
    """
    request_sha256 = sha256_of({"retry": str(identifier), "items": None if indexes is None else list(indexes)})
    for _ in range(TRIES_MAX):
        batch, position = parts.ledger.batch(identifier, owner=asked.owner)
        if asked.key is not None and not asked.key_is_new and (before := started_under(batch, identifier, asked.key)):
            first = rerun_job_id(identifier, asked.key, before[0].index)
            _require_same(parts, asked.owner, first, request_sha256)
            return Answered({"id": identifier, "items": accepted_items(before)}, position, new=False)
        again = _planned(parts, asked, batch, indexes)
        if not again.items:
            raise NoItemToRetry(again.refused)
        if asked.key is not None:
            again = named(again, identifier, asked.key, request_sha256)
        command = RunItemsAgain(tuple(again.items), asked.now)
        try:
            executed = parts.ledger.execute(BATCH, identifier, command, _by(asked.owner), again.jobs)
        except BatchMovedOn as moved:
            log.info("a batch is looked at once more: %s", moved)
            continue
        if executed.decision:
            return Answered(_run_again(identifier, batch, again), executed.position, new=True)
    raise Unavailable("The items of this batch are being run again by other requests; look at it and try again.")


@dataclass(frozen=True, slots=True)
class Retried:
    """The job that runs the lost outputs of another one again. `new`: this request started it."""

    job_id: UUID
    position: int
    new: bool


def run_job_again(parts: Parts, asked: RequestContext, batch: UUID, job_id: UUID, actor: str) -> Retried | None:
    """Run the lost outputs of an item's job again; for a job that was already run again, return its successor.

    None for a job that belongs to no item of this batch. Raises `NothingToRetry`.
    """
    for _ in range(TRIES_MAX):
        try:
            opened, position = parts.ledger.batch(batch, owner=asked.owner)
        except NotFound:
            return None
        index = opened.index_of(job_id)
        if index is None:
            return None
        item = opened.items[index]
        if item.job_id != job_id:
            return Retried(item.jobs[item.jobs.index(job_id) + 1], position, new=False)
        job = retry_of(job_id, parts.ledger.generation(job_id, owner=asked.owner), asked)
        with suppress(NotFound):  # an administrator ran it again outside its batch, with an earlier version
            parts.ledger.generation(job.job_id, owner=asked.owner)
            return Retried(job.job_id, position, new=False)
        command = RunItemsAgain((NewItem(index, item.template, job.job_id, instead_of=job_id),), asked.now)
        try:
            executed = parts.ledger.execute(BATCH, batch, command, Context(actor, asked.owner), [job])
        except BatchMovedOn as moved:
            log.info("a batch is looked at once more: %s", moved)
            continue
        if executed.decision:
            return Retried(job.job_id, executed.position, new=True)
    raise Unavailable("This job is being run again by other requests; look at its batch and try again.")


def statuses_of_jobs(parts: Parts, owner: str, batch: Opened) -> dict[UUID, str]:
    """The status of each item's last job in the view; an end is final, other statuses may be outdated."""
    jobs = [item.job_id for item in batch.items.values() if item.job_id is not None]
    with parts.views.of(owner) as connection:
        return batch_reads.statuses_of(connection, owner, jobs)


def prefer(parts: Parts, owner: str, identifier: UUID, wanted: PreferAsset) -> Answered:
    """Store a preference. Raises `NotFound`, `InvalidInput`, `AssetNotCompleted` and `NotAComparison`."""
    batch, _ = parts.ledger.batch(identifier, owner=owner)
    winner_job = _job_of_completed(parts, owner, batch, wanted.winner)
    loser_job = _job_of_completed(parts, owner, batch, wanted.loser)
    command = replace(wanted, winner_job=winner_job, loser_job=loser_job)
    executed = parts.ledger.execute(BATCH, identifier, command, _by(owner))
    document = {
        "winner": wanted.winner,
        "loser": wanted.loser,
        "winner_index": None if winner_job is None else batch.index_of(winner_job),
        "loser_index": None if loser_job is None else batch.index_of(loser_job),
        "blind": wanted.blind,
    }
    return Answered(document, executed.position, new=bool(executed.decision))


def _job_of_completed(parts: Parts, owner: str, batch: Opened, asset: UUID) -> UUID | None:
    """The job that made an asset; None if it is not an asset of the owner: the batch then reports what it must be."""
    try:
        found = parts.ledger.asset(asset, owner=owner)
    except NotFound:
        return None
    job_id = job_of(found)
    if job_id is not None and batch.index_of(job_id) is not None and not isinstance(found, Completed):
        raise AssetNotCompleted(status_of(found))
    return job_id


def _planned(parts: Parts, asked: RequestContext, batch: Opened, indexes: Sequence[int] | None) -> Again:
    if indexes is not None:
        return these_again(batch, indexes, asked, parts.ledger)
    statuses = statuses_of_jobs(parts, asked.owner, batch)
    done = {job_id for job_id, status in statuses.items() if status == "succeeded"}
    return lost_again(batch, done, asked, parts.ledger)


def _run_again(identifier: UUID, batch: Opened, again: Again) -> Json:
    refused = [
        NewItem(index, batch.items[index].template, None, problem_of(reason)) for index, reason in again.refused.items()
    ]
    items = sorted([*again.items, *refused], key=lambda item: item.index)
    return {"id": identifier, "items": accepted_items(items)}


def _require_same(parts: Parts, owner: str, started: UUID, request_sha256: str) -> None:
    """Refuse a key under which another request started this job."""
    job = parts.ledger.generation(started, owner=owner).job
    if isinstance(job, NotSubmitted) or job.queued.request_sha256 != request_sha256:
        raise IdempotencyKeyReused


def _accepted(identifier: UUID, asked: RequestContext, batch: Opened, items: Sequence[NewItem]) -> Json:
    counts = Counter("rejected" if item.job_id is None else "queued" for item in items)
    return accepted_document(_row(identifier, batch, counts, asked.now), items)


def _repeated(parts: Parts, owner: str, identifier: UUID, request_sha256: str | None) -> Answered | None:
    """The batch that was already opened under this id, according to the ledger; None if there is none."""
    try:
        batch, position = parts.ledger.batch(identifier, owner=owner)
    except NotFound:
        return None
    if batch.opened.request_sha256 != request_sha256:
        raise IdempotencyKeyReused
    statuses = statuses_of_jobs(parts, owner, batch)
    counts = Counter(
        "rejected" if item.job_id is None else statuses.get(item.job_id, "queued") for item in batch.items.values()
    )
    opened_at = next(one.envelope.at for one in parts.ledger.stream(identifier) if isinstance(one, Recorded))
    items = [NewItem(index, item.template, item.job_id, item.problem) for index, item in batch.items.items()]
    return Answered(accepted_document(_row(identifier, batch, counts, opened_at), items), position, new=False)


def _row(identifier: UUID, batch: Opened, counts: dict[str, int], created_at: datetime) -> BatchRow:
    """The row that the view will have."""
    opened = batch.opened
    return BatchRow(
        batch_id=identifier,
        kind=opened.kind,
        name=batch.name,
        collection=opened.collection,
        base=opened.base,
        prompt=opened.prompt,
        seed=opened.seed,
        counts=counts,
        created_at=created_at,
        opened_position=0,
    )


def _by(owner: str) -> Context:
    return Context(actor=owner, owner=owner)
