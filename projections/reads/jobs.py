"""Typed queries over the live views. Each takes a connection and runs in one round trip; rows carry UTC times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, LiteralString, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from domain.json_type import Json
from projections.reads.search import searching, web_search
from projections.sql import column_list, load, names_of

RowT = TypeVar("RowT")


def _utc(moment: datetime | None) -> datetime | None:
    """The same moment in UTC: the driver returns times in the session's time zone."""
    return None if moment is None else moment.astimezone(UTC)


@dataclass(slots=True)
class JobRow:
    """A row of `views.jobs`. `recipe` is a `domain.recipes.recipe.Recipe` as JSON, `error` a `domain.events.Failure`.

    `enhanced_prompt` is null unless a worker enhanced the recipe's prompt. `warnings` are those of workers, each with
    `code` and `detail`; null if there are none.
    """

    job_id: UUID
    owner: str
    status: str
    pool: str
    recipe: Json
    priority: int
    batch_id: UUID | None
    parent_id: UUID | None
    tags: list[str]
    attempt: int
    error: Json | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    queued_position: int
    enhanced_prompt: str | None
    warnings: list[Json] | None = None

    def __post_init__(self) -> None:
        self.created_at = _utc(self.created_at)
        self.started_at = _utc(self.started_at)
        self.finished_at = _utc(self.finished_at)

    @property
    def quantity(self) -> int:
        """The number of assets of the job."""
        return len(self.recipe["seeds"])


@dataclass(slots=True)
class DeadJobRow:
    """A failed job, without its recipe."""

    job_id: UUID
    owner: str
    job_type: str
    model: str
    pool: str
    quantity: int
    attempts: int
    error: Json
    created_at: datetime
    finished_at: datetime
    queued_position: int

    def __post_init__(self) -> None:
        self.created_at = self.created_at.astimezone(UTC)
        self.finished_at = self.finished_at.astimezone(UTC)


@dataclass(slots=True)
class AssetRow:
    """An asset in a view. `bytes` is the file's size; the columns of the file are null until completed.

    Those of the thumbnail are null until it is made, shortly after.
    """

    asset_id: UUID
    job_id: UUID
    owner: str
    index: int
    seed: int
    kind: str
    path: str
    status: str
    media_type: str | None
    bytes: int | None
    sha256: str | None
    width: int | None
    height: int | None
    error: Json | None
    rating: int | None
    saved: bool
    title: str | None
    tags: list[str]
    completed_at: datetime | None
    thumbnail_sha256: str | None
    thumbnail_path: str | None
    thumbnail_bytes: int | None

    def __post_init__(self) -> None:
        self.completed_at = _utc(self.completed_at)


@dataclass(slots=True, kw_only=True)
class ListedAssetRow(AssetRow):
    """An asset with the facts of its job that lists show. `list_position` orders the list that it is from."""

    prompt: str
    job_type: str
    model: str
    task: str
    batch_id: UUID | None
    list_position: int = 0


@dataclass(slots=True)
class HistoryRow:
    """An event of `views.history`."""

    position: int
    stream_id: UUID
    version: int
    type: str
    at: datetime
    actor: str
    correlation_id: UUID
    causation_id: UUID | None
    data: Json

    def __post_init__(self) -> None:
        self.at = self.at.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration in seconds: half of all are at most `p50`, nine of ten at most `p90`."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """An event that a view could not apply."""

    view: str
    stream_id: UUID
    position: int
    reason: str
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A pool now and over the last hour. Waits are seconds from submission to the first start; rates are 0 … 1."""

    pool: str
    waiting: int
    running: int
    oldest_waiting_s: float | None
    wait_mean_s: float | None
    wait_p50_s: float | None
    wait_p90_s: float | None
    ended_last_hour: int
    error_rate: float | None


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """The jobs of a job type on a model that ended in the last hour. Seconds are means over whole jobs.

    A ratio is actual over expected seconds, of jobs that succeeded in one attempt; null without such a job.
    """

    job_type: str
    model: str
    jobs: int
    expected_s: float | None
    actual_s: float | None
    ratio_mean: float | None
    ratio_p50: float | None
    ratio_p90: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class EndedRow:
    """All ended jobs of a pool, job type and status: their number, and the known waits and runs summed, in seconds."""

    pool: str
    job_type: str
    status: str
    jobs: int
    waits: int
    wait_s: float
    runs: int
    actual_s: float


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Filters of a list of jobs; None matches everything."""

    status: str | None = None
    job_type: str | None = None
    batch_id: UUID | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class EverybodysFilter:
    """Filters of a list of all owners' jobs; None matches everything."""

    owner: str | None = None
    status: str | None = None
    pool: str | None = None
    job_type: str | None = None


@dataclass(frozen=True, slots=True)
class LibraryFilter:
    """Filters of a list of assets; None matches everything. `words` is a web search query, `min_score` a rating 1 … 5.

    `trashed`: only assets in the trash; otherwise only those not in it.
    """

    kind: str | None = None
    saved: bool | None = None
    tag: str | None = None
    words: str | None = None
    min_score: int | None = None
    model: str | None = None
    trashed: bool = False


LISTED: Final = tuple(name for name in names_of(ListedAssetRow) if name != "list_position")

PARTS: Final = {
    "job": column_list(names_of(JobRow)),
    "asset": column_list(names_of(AssetRow)),
    "asset_of_a": column_list(names_of(AssetRow), of="a"),
    "listed": column_list(LISTED),
    "listed_in_library": column_list(name for name in LISTED if name != "error"),
    "history": column_list(names_of(HistoryRow)),
}
"""Columns to select for each type of row, by their names in the `.sql` files. The library has no column `error`."""

SQL: Final = load("jobs.sql", "projections.reads", **PARTS)


def view_positions(connection: Connection[TupleRow]) -> dict[str, int]:
    """The position that each live view has reached."""
    return dict(connection.execute(SQL["view_positions"], prepare=True).fetchall())


def ledger_head(connection: Connection[TupleRow]) -> int:
    """The last position of the ledger; 0 when it is empty."""
    row = connection.execute(SQL["ledger_head"], prepare=True).fetchone()
    return int(row[0]) if row else 0


def parked(connection: Connection[TupleRow], *, limit: int) -> list[ParkedRow]:
    """Events that live views could not apply, by view and position."""
    return _rows(connection, ParkedRow, SQL["parked"], {"limit": limit})


def list_jobs(
    connection: Connection[TupleRow], owner: str, wanted: JobFilter, *, before: int | None, limit: int
) -> list[JobRow]:
    """Jobs queued before position `before`, newest first, of the owner that `connection` acts for."""
    arguments = {
        "owner": owner,
        "before": before,
        "limit": limit,
        "status": wanted.status,
        "job_type": wanted.job_type,
        "batch_id": wanted.batch_id,
        "tag": wanted.tag,
    }
    return _rows(connection, JobRow, SQL["list_jobs" if wanted.tag is None else "list_jobs_tagged"], arguments)


def list_everybodys_jobs(
    connection: Connection[TupleRow], wanted: EverybodysFilter, *, before: int | None, limit: int
) -> list[JobRow]:
    """Jobs of all owners queued before position `before`, newest first."""
    arguments = {
        "before": before,
        "limit": limit,
        "owner": wanted.owner,
        "status": wanted.status,
        "pool": wanted.pool,
        "job_type": wanted.job_type,
    }
    with connection.cursor(row_factory=class_row(JobRow)) as cursor:
        # Not prepared: the best plan depends on which filters are set.
        return cursor.execute(SQL["list_everybodys_jobs"], arguments, prepare=False).fetchall()


def find_anybodys_job(connection: Connection[TupleRow], job_id: UUID) -> JobRow | None:
    """The job, of any owner."""
    rows = _rows(connection, JobRow, SQL["find_anybodys_job"], {"job_id": job_id})
    return rows[0] if rows else None


def dead_jobs(
    connection: Connection[TupleRow], *, error_class: str | None, before: int | None, limit: int
) -> list[DeadJobRow]:
    """Failed jobs of all owners, queued before position `before`, newest first."""
    arguments = {"error_class": error_class, "before": before, "limit": limit}
    return _rows(connection, DeadJobRow, SQL["dead_jobs"], arguments)


def which_exist(connection: Connection[TupleRow], job_ids: Sequence[UUID]) -> set[UUID]:
    """The ids that are jobs, of any owner."""
    return {job_id for (job_id,) in connection.execute(SQL["which_exist"], (list(job_ids),)).fetchall()}


def find_job(connection: Connection[TupleRow], owner: str, job_id: UUID) -> JobRow | None:
    """The job if it belongs to the owner."""
    rows = _rows(connection, JobRow, SQL["find_job"], {"owner": owner, "job_id": job_id})
    return rows[0] if rows else None


def assets_of_jobs(connection: Connection[TupleRow], job_ids: Sequence[UUID]) -> dict[UUID, list[AssetRow]]:
    """The assets of each job by index."""
    found: dict[UUID, list[AssetRow]] = {job_id: [] for job_id in job_ids}
    if job_ids:
        for row in _rows(connection, AssetRow, SQL["assets_of_jobs"], {"job_ids": list(job_ids)}):
            found[row.job_id].append(row)
    return found


def find_asset(connection: Connection[TupleRow], owner: str, asset_id: UUID) -> ListedAssetRow | None:
    """The asset if it belongs to the owner."""
    rows = _rows(connection, ListedAssetRow, SQL["find_asset"], {"owner": owner, "asset_id": asset_id})
    return rows[0] if rows else None


def list_workspace(
    connection: Connection[TupleRow], owner: str, *, before: int | None, after_index: int, limit: int
) -> list[ListedAssetRow]:
    """Assets in progress or under review; jobs newest first, their assets by index."""
    arguments = {"owner": owner, "before": before, "after_index": after_index, "limit": limit}
    return _rows(connection, ListedAssetRow, SQL["list_workspace"], arguments)


def list_library(
    connection: Connection[TupleRow], owner: str, wanted: LibraryFilter, *, before: int | None, limit: int
) -> list[ListedAssetRow]:
    """Assets completed before position `before`, newest first, of the owner that `connection` acts for.

    Raises `InvalidInput` for a search without a word.
    """
    arguments = {
        "owner": owner,
        "before": before,
        "limit": limit,
        "kind": wanted.kind,
        "saved": wanted.saved,
        "tag": wanted.tag,
        "words": None if wanted.words is None else web_search(wanted.words),
        "min_score": wanted.min_score,
        "model": wanted.model,
        "trashed": wanted.trashed,
    }
    with searching():
        return _rows(connection, ListedAssetRow, SQL["list_library"], arguments)


def history_of_streams(
    connection: Connection[TupleRow], owner: str, stream_ids: Sequence[UUID], *, after: int, limit: int
) -> list[HistoryRow]:
    """Events of these streams after position `after`, in ledger order."""
    arguments = {"owner": owner, "stream_ids": list(stream_ids), "after": after, "limit": limit}
    return _rows(connection, HistoryRow, SQL["history_of_streams"], arguments)


def history_of_owner(
    connection: Connection[TupleRow], owner: str, *, after: int, upto: int, limit: int
) -> list[HistoryRow]:
    """The owner's events after position `after` up to `upto`, in ledger order."""
    arguments = {"owner": owner, "after": after, "upto": upto, "limit": limit}
    return _rows(connection, HistoryRow, SQL["history_of_owner"], arguments)


@dataclass(frozen=True, slots=True)
class RunningAttempt:
    """The worker and owner of a running job."""

    job_id: UUID
    owner: str
    attempt: int
    worker: str


def running_attempts(connection: Connection[TupleRow], job_ids: Sequence[UUID]) -> list[RunningAttempt]:
    """The running ones of these jobs."""
    return _rows(connection, RunningAttempt, SQL["running_attempts"], {"job_ids": list(job_ids)})


def recent_ratios_of_types(connection: Connection[TupleRow]) -> dict[str, Seconds]:
    """Actual over expected seconds, of each job type's jobs among the last 500 that ended: factors, not seconds."""
    rows = connection.execute(SQL["recent_ratios_of_types"], prepare=True).fetchall()
    return {job_type: Seconds(p50, p90) for job_type, p50, p90 in rows}


def recent_ratios(connection: Connection[TupleRow]) -> dict[str, Seconds]:
    """The same of each pool's jobs."""
    rows = connection.execute(SQL["recent_ratios"], prepare=True).fetchall()
    return {pool: Seconds(p50, p90) for pool, p50, p90 in rows}


def queues(connection: Connection[TupleRow], pools: Sequence[str], now: datetime) -> list[QueueRow]:
    """Each pool now, and over the hour before `now`."""
    return _rows(connection, QueueRow, SQL["queues"], {"pools": list(pools), "now": now})


def performance(connection: Connection[TupleRow], now: datetime) -> list[PerformanceRow]:
    """Each job type and model with jobs that ended in the hour before `now`."""
    return _rows(connection, PerformanceRow, SQL["performance"], {"now": now})


def ended_jobs(connection: Connection[TupleRow]) -> list[EndedRow]:
    """All ended jobs, by pool, job type and status; scans the index over all of them."""
    return _rows(connection, EndedRow, SQL["ended_jobs"], {})


def queued_jobs(connection: Connection[TupleRow]) -> dict[tuple[str, str], int]:
    """The number of jobs by pool and status, waiting or running; empty combinations are left out."""
    rows = connection.execute(SQL["queued_jobs"], prepare=True).fetchall()
    return {(pool, status): jobs for pool, status, jobs in rows}


def _rows(
    connection: Connection[TupleRow], kind: type[RowT], sql: LiteralString, arguments: Mapping[str, object]
) -> list[RowT]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql, arguments).fetchall()
