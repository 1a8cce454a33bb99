"""Selects the contents of a bundle: a job with everything it starts from, a batch with all its jobs, or everything."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, LiteralString, cast
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.codec import CURRENT, name_of
from domain.envelope import Recorded, Unreadable
from domain.events import AssetReserved, BatchItemAdded, BatchOpened, JobEnding, JobQueued
from domain.recipes.recipe import asset_id
from projections.sql import load
from services.bundle.census import read_source, sources_of
from services.bundle.errors import JobUnfinished, LedgerUnfit, NothingToExport
from services.bundle.layout import LeftOut
from services.ledger import EventMapper
from services.ledger.commits import NewEvent

SQL = load("bundle.sql", "services.bundle")

STREAMS_AT_ONCE: Final = 1_000
"""Streams read by one query."""

ROWS_AT_ONCE: Final = 2_000
"""Rows fetched from a server-side cursor at a time."""

ENDINGS: Final = sorted(name_of(topic) for topic, event in CURRENT.items() if event in JobEnding.__args__)
"""The names of the events that end a job."""

MAPPER: Final = EventMapper()


@dataclass(frozen=True, slots=True)
class Contents:
    """The given streams of the ledger, or all (None) except `without`."""

    what: Literal["job", "batch", "all"]
    id: UUID | None = None
    streams: frozenset[UUID] | None = None
    without: frozenset[UUID] = frozenset()
    left_out: LeftOut = field(default_factory=LeftOut)

    def events(self, connection: Connection[TupleRow]) -> Iterator[tuple[int, NewEvent]]:
        """Positions and events, in ledger order; only the rows of one fetch are in memory."""
        if self.streams is not None:
            yield from _rows(connection, "events_of", list(self.streams))
        else:
            for position, event in _rows(connection, "events"):
                if event.stream_id not in self.without:
                    yield position, event

    def count(self, connection: Connection[TupleRow]) -> int:
        """The number of events, including the ones left out."""
        query, *arguments = ("head",) if self.streams is None else ("count_of", list(self.streams))
        row = connection.execute(SQL[query], arguments).fetchone()
        return cast("int", row[0]) if row else 0


def everything(connection: Connection[TupleRow], *, unfinished: bool) -> Contents:
    """All streams; unless `unfinished`, without jobs that have not ended and everything connected to them.

    Jobs that start from assets of such a job are left out too, and so are its batch and all jobs of that batch. A batch
    with some jobs missing would count them forever.
    """
    running = {row[0] for row in connection.execute(SQL["unfinished"], (ENDINGS,))} if not unfinished else set()
    if not running:
        return Contents("all")
    jobs, batches, outputs = _hanging_on(connection, running)
    assets = {asset_id(job_id, index) for job_id in jobs for index in range(outputs[job_id])}
    left_out = LeftOut(jobs=len(jobs), batches=len(batches))
    return Contents("all", without=frozenset(jobs | batches | assets), left_out=left_out)


def of_one(connection: Connection[TupleRow], identifier: UUID) -> Contents:
    """The streams of a job or a batch, of what it starts from, and of the jobs that made that.

    A batch is never split: each of its jobs brings the whole batch. If a job arrived alone and its batch later, the
    ledger there would say that the job joined the batch after it had ended. A parent that gave a job only its inputs is
    not included: `parent_id` is exported unchanged, and names the same job in every installation that has it.

    Raises `NothingToExport`, `JobUnfinished` and `LedgerUnfit`.
    """
    events = _streams(connection, [identifier]).get(identifier, [])
    match events[0].event if events else None:
        case JobQueued():
            streams = _hanging_together(connection, jobs={identifier}, batches=set())
            return Contents("job", identifier, frozenset(streams))
        case BatchOpened():
            streams = _hanging_together(connection, jobs=set(), batches={identifier})
            return Contents("batch", identifier, frozenset(streams))
        case _:
            raise NothingToExport(identifier)


def decoded(position: int, stored: NewEvent) -> Recorded:
    """The event of the ledger. Raises `LedgerUnfit` if this version cannot read it."""
    recorded = MAPPER.read(position, stored.stream_id, stored.version, stored.topic, stored.state)
    if isinstance(recorded, Unreadable):
        raise LedgerUnfit(f"The event at position {position} cannot be read: {recorded.reason}. Run `darkroom verify`.")
    return recorded


def commits(connection: Connection[TupleRow]) -> Iterator[tuple[int, int]]:
    """First and last position of every commit of the ledger, in order."""
    with connection.cursor(name="bundle_commits") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        yield from cast("Iterator[tuple[int, int]]", cursor.execute(SQL["commits"]))


def _hanging_together(connection: Connection[TupleRow], *, jobs: set[UUID], batches: set[UUID]) -> set[UUID]:
    """The streams of these, of their assets and uploads, and of the jobs and batches that must be included."""
    streams: set[UUID] = set()
    known: set[UUID] = set()
    while jobs or batches:
        known |= jobs | batches
        named: set[UUID] = set()
        assets: set[UUID] = set()
        more_batches: set[UUID] = set()
        for batch_id, events in _streams(connection, batches).items():
            streams.add(batch_id)
            for event in (one.event for one in events):
                if isinstance(event, BatchOpened) and event.base:
                    streams |= _uploads([event.base])
                elif isinstance(event, BatchItemAdded) and event.job_id:
                    named.add(event.job_id)
        found = _streams(connection, jobs)
        for job_id in sorted(jobs):
            queued = _require_ended(job_id, found.get(job_id, []))
            sources = sources_of(queued.recipe)
            streams |= {job_id, *(asset_id(job_id, index) for index in range(queued.recipe.quantity))}
            streams |= _uploads(sources)
            assets |= {identifier for kind, identifier in map(read_source, sources) if kind == "asset"}
            more_batches |= {queued.batch_id} if queued.batch_id else set()
        named |= {_job_of(asset, events) for asset, events in _streams(connection, assets).items()}
        jobs, batches = named - known, more_batches - known
    return streams


def _require_ended(job_id: UUID, events: Sequence[Recorded]) -> JobQueued:
    if not events or not isinstance(events[0].event, JobQueued):
        raise LedgerUnfit(f"The ledger names a job {job_id} and does not hold it. Run `darkroom verify`.")
    if not any(isinstance(one.event, JobEnding) for one in events):
        raise JobUnfinished(job_id)
    return events[0].event


def _job_of(asset: UUID, events: Sequence[Recorded]) -> UUID:
    if not isinstance(events[0].event, AssetReserved):
        raise LedgerUnfit(f"A job starts from {asset}, which is no asset. Run `darkroom verify`.")
    return events[0].event.job_id


def _uploads(sources: Iterable[str]) -> set[UUID]:
    return {identifier for kind, identifier in map(read_source, sources) if kind == "media"}


def _hanging_on(connection: Connection[TupleRow], running: set[UUID]) -> tuple[set[UUID], set[UUID], dict[UUID, int]]:
    """The jobs and batches connected to these jobs, including these, and the number of outputs of each job."""
    outputs: dict[UUID, int] = {}
    starting_from: dict[UUID, list[UUID]] = defaultdict(list)
    batches_of: dict[UUID, set[UUID]] = defaultdict(set)
    jobs_of: dict[UUID, set[UUID]] = defaultdict(set)
    for position, stored in _rows(connection, "events_named", ["job.queued", "batch.item_added"]):
        one = decoded(position, stored)
        match one.event:
            case JobQueued(recipe=recipe):
                outputs[one.stream_id] = recipe.quantity
                for source in sources_of(recipe):
                    starting_from[read_source(source)[1]].append(one.stream_id)
            case BatchItemAdded(job_id=UUID() as job_id):
                batches_of[job_id].add(one.stream_id)
                jobs_of[one.stream_id].add(job_id)
    jobs: set[UUID] = set()
    waiting = set(running)
    while waiting:
        job_id = waiting.pop()
        jobs.add(job_id)
        for index in range(outputs[job_id]):
            waiting.update(starting_from.get(asset_id(job_id, index), ()))
        for batch_id in batches_of.get(job_id, ()):
            waiting |= jobs_of[batch_id]
        waiting -= jobs
    return jobs, {batch_id for job_id in jobs for batch_id in batches_of.get(job_id, ())}, outputs


def _streams(connection: Connection[TupleRow], stream_ids: Iterable[UUID]) -> dict[UUID, list[Recorded]]:
    """All events of these streams, each stream by version."""
    found: dict[UUID, list[Recorded]] = defaultdict(list)
    wanted = sorted(stream_ids)
    for start in range(0, len(wanted), STREAMS_AT_ONCE):
        for position, stored in _rows(connection, "events_of", wanted[start : start + STREAMS_AT_ONCE]):
            found[stored.stream_id].append(decoded(position, stored))
    return found


def _rows(connection: Connection[TupleRow], query: LiteralString, *arguments: object) -> Iterator[tuple[int, NewEvent]]:
    with connection.cursor(name="bundle_events", binary=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        for position, stream_id, version, topic, state in cursor.execute(SQL[query], arguments):
            yield position, NewEvent(stream_id, version, topic, bytes(state))
