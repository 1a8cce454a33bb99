"""Jobs that were submitted together: templates of a batch, or variants of a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never
from uuid import UUID, uuid5

from domain.commands import BatchCommand, NewItem, OpenBatch, PreferAsset, RenameBatch, RunItemsAgain
from domain.errors import BatchMovedOn, FieldProblem, IdempotencyKeyReused, InvalidInput, NotAComparison, NotFound
from domain.events import BatchEvent, BatchItemAdded, BatchOpened, BatchPreferred, BatchRenamed, ItemProblem
from domain.owned_ids import owned_id

OWNERS: Final = UUID("c2a4f0d8-7b1e-4f36-9d02-5e8b6a7c9f41")
"""UUID namespace for batch ids made from an Idempotency-Key, one sub-namespace per owner. It never changes, and it
differs from the one for jobs: the same key may name a job and a batch."""

ITEMS_MAX: Final = 1_000
"""Maximum number of items in a batch: they are decided and appended together, within seconds."""

VARIANTS_MIN: Final = 2
VARIANTS_MAX: Final = 8
"""Maximum number of variants in a comparison."""


@dataclass(frozen=True, slots=True)
class UnknownBatch:
    """No batch was opened under this id."""


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One template or variant. `jobs`: the jobs that ran it, the current one last; empty if the item was rejected."""

    template: str | None
    jobs: tuple[UUID, ...] = ()
    problem: ItemProblem | None = None

    @property
    def job_id(self) -> UUID | None:
        """The item's current job."""
        return self.jobs[-1] if self.jobs else None


@dataclass(frozen=True, slots=True)
class Opened:
    """The batch exists. `items` by index; `preferences` holds the latest preference for each pair of assets."""

    opened: BatchOpened
    name: str
    items: Mapping[int, BatchEntry] = field(default_factory=dict)
    preferences: Mapping[frozenset[UUID], BatchPreferred] = field(default_factory=dict)

    def index_of(self, job_id: UUID) -> int | None:
        """The index of the item that this job ran, now or before; None if the job is not part of the batch."""
        return next((index for index, item in self.items.items() if job_id in item.jobs), None)


Batch = UnknownBatch | Opened


def decide(command: BatchCommand, batch: Batch) -> list[BatchEvent]:
    """Apply a command to a batch. A repeated command returns nothing; a repeated `OpenBatch` is found by its hash."""
    if isinstance(command, OpenBatch):
        return _open(command, batch)
    if isinstance(batch, UnknownBatch):
        raise NotFound("batch", "under this id")
    match command:
        case RunItemsAgain(items=items):
            return _run_again(items, batch)
        case RenameBatch(name=name):
            return [] if name == batch.name else [BatchRenamed(name=name)]
        case PreferAsset():
            return _prefer(command, batch)
        case _:
            assert_never(command)


def evolve(batch: Batch, event: BatchEvent) -> Batch:
    """Apply one event. Total, and without rules: history has already happened."""
    if isinstance(event, BatchOpened):
        return Opened(event, event.name)
    if isinstance(batch, UnknownBatch):
        raise ValueError("The ledger goes on with a batch that was never opened: it is damaged; run darkroom verify.")
    match event:
        case BatchItemAdded(index=index):
            before = batch.items[index].jobs if index in batch.items else ()
            jobs = before if event.job_id is None else (*before, event.job_id)
            return replace(batch, items={**batch.items, index: BatchEntry(event.template, jobs, event.problem)})
        case BatchRenamed(name=name):
            return replace(batch, name=name)
        case BatchPreferred(winner=winner, loser=loser):
            return replace(batch, preferences={**batch.preferences, frozenset((winner, loser)): event})
        case _:
            assert_never(event)


def owner_of(batch: Batch) -> str | None:
    """The owner of the batch; None for an id that was never opened."""
    return None if isinstance(batch, UnknownBatch) else batch.opened.owner


def batch_id(owner: str, key: str) -> UUID:
    """The id of the batch that an owner opens under an Idempotency-Key."""
    return owned_id(OWNERS, owner, key)


def item_job_id(batch: UUID, index: int) -> UUID:
    """The id of an item's first job."""
    return uuid5(batch, f"item {index}")


def rerun_job_id(batch: UUID, key: str, index: int) -> UUID:
    """The id of the job that runs an item again under an Idempotency-Key."""
    return uuid5(uuid5(batch, f"retry {key}"), str(index))


def title_of(collection: str | None, template: str | None) -> str | None:
    """The title of an item's assets: "{collection} - {template}", or the one of the two that is set."""
    return " - ".join(part for part in (collection, template) if part) or None


def _open(command: OpenBatch, batch: Batch) -> list[BatchEvent]:
    if isinstance(batch, Opened):
        if batch.opened.request_sha256 is not None and batch.opened.request_sha256 == command.request_sha256:
            return []
        raise IdempotencyKeyReused
    opened = BatchOpened(
        owner=command.owner,
        kind=command.kind,
        name=command.name,
        collection=command.collection,
        base=command.base,
        prompt=command.prompt,
        seed=command.seed,
        request_sha256=command.request_sha256,
    )
    return [opened, *map(_added, command.items)]


def _run_again(items: tuple[NewItem, ...], batch: Opened) -> list[BatchEvent]:
    """Replace only the job that the caller saw: if two requests run an item again at once, one of them wins.

    A command is a repeat if one of its jobs already exists: all its jobs are submitted in one commit.
    """
    known = {item.index: batch.items.get(item.index, BatchEntry(None)) for item in items}
    if any(item.job_id in known[item.index].jobs for item in items):
        return []
    for item in items:
        if item.index not in batch.items:
            raise NotFound("item", item.index)
        if item.instead_of != known[item.index].job_id:
            raise BatchMovedOn(item.index)
    return [_added(item) for item in items]


def _added(item: NewItem) -> BatchItemAdded:
    return BatchItemAdded(index=item.index, template=item.template, job_id=item.job_id, problem=item.problem)


def _prefer(command: PreferAsset, batch: Opened) -> list[BatchEvent]:
    if batch.opened.kind != "comparison":
        raise NotAComparison
    sides = {"winner": (command.winner, command.winner_job), "loser": (command.loser, command.loser_job)}
    items = {side: None if job is None else batch.index_of(job) for side, (_, job) in sides.items()}
    missing = [
        FieldProblem(side, f"must be an asset of this comparison; {asset} belongs to none of its jobs")
        for side, (asset, _) in sides.items()
        if items[side] is None
    ]
    if missing:
        raise InvalidInput(missing)
    if items["winner"] == items["loser"]:
        detail = f"must be an asset of another item than the winner, which is of item {items['winner']}"
        raise InvalidInput([FieldProblem("loser", detail)])
    preferred = BatchPreferred(winner=command.winner, loser=command.loser, blind=command.blind)
    latest = batch.preferences.get(frozenset((command.winner, command.loser)))
    return [] if latest == preferred else [preferred]
