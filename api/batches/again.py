"""Runs items of a batch again: which of them can, and their new jobs."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from api.http.idempotency import RequestContext
from api.jobs.submission import successor_of
from domain.aggregates.batch import BatchEntry, Opened, rerun_job_id
from domain.aggregates.generation import Generation, recipe_of_retry
from domain.aggregates.job import Finished, NotSubmitted, status_of
from domain.commands import NewItem, SubmitJob
from domain.errors import FieldProblem, InvalidInput, NothingToRetry
from domain.events import ItemProblem, JobSucceeded
from domain.recipes.recipe import SEED_MAX, Recipe, seeds_from
from services.ledger import Ledger


@dataclass(slots=True)
class Again:
    """The items that run again, with their jobs; and, for the items requested by index, why others do not."""

    items: list[NewItem] = field(default_factory=list)
    jobs: list[SubmitJob] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def lost_again(batch: Opened, done: Collection[UUID], asked: RequestContext, ledger: Ledger) -> Again:
    """The lost outputs of every item with an ended job. `done` are jobs known to have lost none. Blocks."""
    again = Again()
    for index, item in batch.items.items():
        if item.job_id is None or item.job_id in done:
            continue
        generation = ledger.generation(item.job_id, owner=asked.owner)
        try:
            recipe = recipe_of_retry(generation)
        except NothingToRetry:
            continue
        _add(again, index, item, successor_of(item.job_id, generation, recipe, asked))
    return again


def these_again(batch: Opened, indexes: Sequence[int], asked: RequestContext, ledger: Ledger) -> Again:
    """These items: the lost outputs with their seeds; an item that lost none completely, with a new seed. Blocks.

    Raises `InvalidInput` for an index that the batch does not have.
    """
    _require_items(batch, indexes)
    again = Again()
    for index in dict.fromkeys(indexes):
        item = batch.items[index]
        if item.job_id is None:
            again.refused[index] = "It was not accepted, so there is no job to run again; submit it in another batch."
            continue
        generation = ledger.generation(item.job_id, owner=asked.owner)
        try:
            _add(again, index, item, _successor(item, item.job_id, generation, asked, ledger))
        except NothingToRetry as nothing:
            again.refused[index] = str(nothing)
    return again


def named(again: Again, batch_id: UUID, key: str, request_sha256: str) -> Again:
    """The same with ids that follow from an Idempotency-Key; `request_sha256` recognises the request."""
    ids = [rerun_job_id(batch_id, key, item.index) for item in again.items]
    items = [replace(item, job_id=job_id) for item, job_id in zip(again.items, ids, strict=True)]
    jobs = [
        replace(job, job_id=job_id, request_sha256=request_sha256) for job, job_id in zip(again.jobs, ids, strict=True)
    ]
    return Again(items, jobs, again.refused)


def started_under(batch: Opened, batch_id: UUID, key: str) -> list[NewItem]:
    """The items that an earlier request with this key started."""
    ids = {index: rerun_job_id(batch_id, key, index) for index in batch.items}
    return [NewItem(index, item.template, ids[index]) for index, item in batch.items.items() if ids[index] in item.jobs]


def problem_of(reason: str) -> ItemProblem:
    """The reason why an item does not run again, as its problem."""
    return ItemProblem(code=NothingToRetry.code, detail=reason)


def _require_items(batch: Opened, indexes: Sequence[int]) -> None:
    last = max(batch.items)
    problems = [
        FieldProblem(f"items.{place}", f"there is no item {index}; this batch has 0 to {last}")
        for place, index in enumerate(indexes)
        if index not in batch.items
    ]
    if problems:
        raise InvalidInput(problems)


def _successor(
    item: BatchEntry, job_id: UUID, generation: Generation, asked: RequestContext, ledger: Ledger
) -> SubmitJob:
    job = generation.job
    if not isinstance(job, Finished) or not isinstance(job.ending, JobSucceeded):
        return successor_of(job_id, generation, recipe_of_retry(generation), asked)
    # The last job may have made only some of the outputs; the first one was to make all of them.
    first = generation if item.jobs[0] == job_id else ledger.generation(item.jobs[0], owner=asked.owner)
    return successor_of(job_id, first, _anew(first), asked)


def _anew(generation: Generation) -> Recipe:
    """The whole recipe with new random seeds: the same ones would give the same pictures.

    Raises `NothingToRetry` for a job that was never queued.
    """
    job = generation.job
    if isinstance(job, NotSubmitted):
        raise NothingToRetry(status_of(job))
    quantity = job.queued.recipe.quantity
    seeds = seeds_from(secrets.randbelow(SEED_MAX - quantity + 2), quantity)
    return job.queued.recipe.model_copy(update={"seeds": seeds})


def _add(again: Again, index: int, item: BatchEntry, job: SubmitJob) -> None:
    again.items.append(NewItem(index, item.template, job.job_id, instead_of=item.job_id))
    again.jobs.append(job)
