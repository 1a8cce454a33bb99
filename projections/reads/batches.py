"""Typed queries about batches over the live views; see `reads.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from domain.json_type import Json
from projections.reads.jobs import PARTS, ListedAssetRow
from projections.reads.search import searching, web_search
from projections.sql import column_list, load, names_of

RowT = TypeVar("RowT")


@dataclass(slots=True)
class BatchRow:
    """A row of `views.batches`. `counts` maps each status to its number of items."""

    batch_id: UUID
    kind: str
    name: str
    collection: str | None
    base: str | None
    prompt: str | None
    seed: int | None
    counts: dict[str, int]
    created_at: datetime
    opened_position: int

    def __post_init__(self) -> None:
        self.created_at = self.created_at.astimezone(UTC)


@dataclass(slots=True)
class ItemRow:
    """A row of `views.batch_items`.

    `problem` is a `domain.events.ItemProblem` if the item was rejected and has no job.
    """

    index: int
    template: str | None
    status: str
    job_id: UUID | None
    jobs: list[UUID]
    problem: Json | None


@dataclass(slots=True)
class PreferenceRow:
    """The latest preference for a pair of assets: `winner` is one of the two."""

    one: UUID
    other: UUID
    winner: UUID
    blind: bool
    at: datetime

    def __post_init__(self) -> None:
        self.at = self.at.astimezone(UTC)

    @property
    def loser(self) -> UUID:
        """The other asset of the pair."""
        return self.other if self.winner == self.one else self.one


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Filters of a list of batches; None matches everything. `words` is a web search query over name and templates."""

    kind: str | None = None
    collection: str | None = None
    words: str | None = None


SQL: Final = load(
    "batches.sql",
    "projections.reads",
    batch=column_list(names_of(BatchRow)),
    item=column_list(names_of(ItemRow)),
    preference=column_list(names_of(PreferenceRow)),
    asset_of_a=PARTS["asset_of_a"],
)


def list_batches(
    connection: Connection[TupleRow], owner: str, wanted: BatchFilter, *, before: int | None, limit: int
) -> list[BatchRow]:
    """Batches opened before position `before`, newest first. Raises `InvalidInput` for a search without a word."""
    words = None if wanted.words is None else web_search(wanted.words)
    filters = {"kind": wanted.kind, "collection": wanted.collection, "words": words}
    with searching():
        return _rows(
            connection, BatchRow, SQL["list_batches"], {"owner": owner, "before": before, "limit": limit, **filters}
        )


def find_batch(connection: Connection[TupleRow], owner: str, batch_id: UUID) -> BatchRow | None:
    """The batch if it belongs to the owner."""
    rows = _rows(connection, BatchRow, SQL["find_batch"], {"owner": owner, "batch_id": batch_id})
    return rows[0] if rows else None


def items_of(connection: Connection[TupleRow], owner: str, batch_id: UUID) -> list[ItemRow]:
    """The items of a batch by index."""
    return _rows(connection, ItemRow, SQL["items"], {"owner": owner, "batch_id": batch_id})


def preferences_of(connection: Connection[TupleRow], owner: str, batch_id: UUID) -> list[PreferenceRow]:
    """The latest preference for each pair, oldest first."""
    return _rows(connection, PreferenceRow, SQL["preferences"], {"owner": owner, "batch_id": batch_id})


def assets_of(connection: Connection[TupleRow], owner: str, jobs: Sequence[UUID]) -> dict[UUID, list[ListedAssetRow]]:
    """The assets of each job by index, with facts of the job."""
    found: dict[UUID, list[ListedAssetRow]] = {job_id: [] for job_id in jobs}
    for row in _rows(connection, ListedAssetRow, SQL["assets"], {"owner": owner, "jobs": list(jobs)}):
        found[row.job_id].append(row)
    return found


def statuses_of(connection: Connection[TupleRow], owner: str, jobs: Sequence[UUID]) -> dict[UUID, str]:
    """The status of each of these jobs; jobs that the view does not have yet are left out."""
    rows = connection.execute(SQL["statuses"], {"owner": owner, "jobs": list(jobs)}).fetchall()
    return {job_id: str(status) for job_id, status in rows}


def _rows(
    connection: Connection[TupleRow], kind: type[RowT], sql: LiteralString, arguments: Mapping[str, object]
) -> list[RowT]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql, arguments).fetchall()
