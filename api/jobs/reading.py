"""Jobs as documents: from the views, or from the ledger for a job that the views do not have yet."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from api.jobs.documents import job_document, rows_from_ledger
from api.jobs.waiting_times import waiting_documents
from api.state import ApiState
from domain.aggregates.job import NotSubmitted
from domain.aggregates.job import owner_of as owner_of_job
from domain.envelope import Recorded
from domain.errors import NotFound
from domain.json_type import Json
from domain.recipes.recipe import asset_id
from projections.reads import jobs as reads
from projections.reads.jobs import EverybodysFilter, JobFilter, JobRow


def identifier(kind: str, text: str) -> UUID:
    """The id in a path. Raises `NotFound` if it is not an id."""
    try:
        found = UUID(text)
    except ValueError:
        raise NotFound(kind, text) from None
    if str(found) != text.lower():  # braces or a missing dash: each resource has one address
        raise NotFound(kind, text)
    return found


def read_job(running: ApiState, owner: str, job_id: UUID) -> Json:
    """The owner's job as it is now. Raises `NotFound` and `Unavailable`."""
    with running.parts.views.of(owner) as connection:
        row = reads.find_job(connection, owner, job_id)
        if row is not None:
            return _documents(running, connection, [row])[0]
    return job_from_ledger(running, owner, job_id)


def read_page(
    running: ApiState, owner: str, wanted: JobFilter, before: int | None, limit: int
) -> tuple[list[Json], int | None]:
    """Documents of the owner's jobs queued before `before`, and the place of the last one if more follow."""
    with running.parts.views.of(owner) as connection:
        rows = reads.list_jobs(connection, owner, wanted, before=before, limit=limit + 1)
        page = rows[:limit]
        more = page[-1].queued_position if len(rows) > limit else None
        return _documents(running, connection, page), more


def read_everybodys(
    running: ApiState, wanted: EverybodysFilter, before: int | None, limit: int
) -> tuple[list[Json], int | None]:
    """The same for the jobs of all owners, for administrators; with their owners and workers."""
    with running.parts.database.connection() as connection:
        rows = reads.list_everybodys_jobs(connection, wanted, before=before, limit=limit + 1)
        page = rows[:limit]
        more = page[-1].queued_position if len(rows) > limit else None
        return _with_owners(running, connection, page), more


def read_anybodys(running: ApiState, job_id: UUID) -> Json:
    """The current job of any owner. Raises `NotFound` and `Unavailable`."""
    with running.parts.database.connection() as connection:
        row = reads.find_anybodys_job(connection, job_id)
        if row is not None:
            return _with_owners(running, connection, [row])[0]
    generation = running.parts.ledger.generation(job_id)
    if isinstance(generation.job, NotSubmitted):
        raise NotFound("job", job_id)
    queued = generation.job.queued
    more = {"owner": queued.owner, "pool": queued.pool, "worker": None}
    return job_from_ledger(running, queued.owner, job_id) | more


def owner_of(running: ApiState, job_id: UUID) -> str:
    """The owner of a job. Raises `NotFound` and `Unavailable`."""
    owner = owner_of_job(running.parts.ledger.generation(job_id).job)
    if owner is None:
        raise NotFound("job", job_id)
    return owner


def history_of(running: ApiState, owner: str, job_id: UUID, after: int, limit: int) -> list[reads.HistoryRow]:
    """Events of the owner's job and of its assets after `after`. Raises `NotFound` and `Unavailable`."""
    quantity = quantity_of(running, owner, job_id)
    streams = [job_id, *(asset_id(job_id, index) for index in range(quantity))]
    with running.parts.views.of(owner) as connection:
        return reads.history_of_streams(connection, owner, streams, after=after, limit=limit)


def quantity_of(running: ApiState, owner: str, job_id: UUID) -> int:
    """The number of assets that the owner's job will make. Raises `NotFound` and `Unavailable`."""
    with running.parts.views.of(owner) as connection:
        row = reads.find_job(connection, owner, job_id)
    if row is not None:
        return row.quantity
    return len(running.parts.ledger.generation(job_id, owner=owner).assets)


def job_from_ledger(running: ApiState, owner: str, job_id: UUID) -> Json:
    """The owner's job folded from its events: works even if no view has it. Raises `NotFound`."""
    ledger = running.parts.ledger
    generation = ledger.generation(job_id, owner=owner)
    streams = [job_id, *(asset_id(job_id, index) for index in range(len(generation.assets)))]
    events = [event for stream in streams for event in ledger.stream(stream) if isinstance(event, Recorded)]
    found = rows_from_ledger(events)
    if found is None:
        raise NotFound("job", job_id)
    row, assets = found
    return job_document(row, assets, progress=running.progress.latest(job_id, row.attempt))


def _with_owners(running: ApiState, connection: Connection[TupleRow], rows: Sequence[JobRow]) -> list[Json]:
    workers = {one.job_id: one.worker for one in reads.running_attempts(connection, [row.job_id for row in rows])}
    return [
        document | {"owner": row.owner, "pool": row.pool, "worker": workers.get(row.job_id)}
        for document, row in zip(_documents(running, connection, rows), rows, strict=True)
    ]


def _documents(running: ApiState, connection: Connection[TupleRow], rows: Sequence[JobRow]) -> list[Json]:
    assets = reads.assets_of_jobs(connection, [row.job_id for row in rows])
    waiting = waiting_documents(running, [row for row in rows if row.status == "queued"])
    return [
        job_document(
            row,
            assets[row.job_id],
            progress=running.progress.latest(row.job_id, row.attempt) if row.status == "processing" else None,
            queue=waiting.get(row.job_id),
        )
        for row in rows
    ]
