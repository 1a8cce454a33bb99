"""The ledger: load, decide, append. The one module that imports the eventsourcing library.

The library keeps events and hands them out; the rules are the domain's deciders, and writing is the group commit of
`flusher.py`. Both recorders, Postgres and in memory, take the same commits and pass the same tests.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar, cast
from uuid import UUID, uuid4

import orjson
from eventsourcing.application import Application
from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    JSONTranscoder,
    ListenNotifySubscription,
    Mapper,
    Notification,
    OperationalError,
    StoredEvent,
    Subscription,
)
from eventsourcing.popo import POPOApplicationRecorder, POPOFactory
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from domain import asset as assets_of
from domain import generation as generations
from domain import job as jobs
from domain.asset import Asset
from domain.codec import Codec, UnknownEvent, name_of
from domain.commands import AssetCommand, JobCommand, SubmitJob
from domain.envelope import Envelope, Recorded, Unreadable
from domain.errors import IdempotencyKeyReused, NotFound
from domain.events import AssetEvent, Event, JobEvent
from domain.generation import Decision, Generation
from domain.recipe import asset_id
from projections.sql import load
from services.database import Database, Unavailable
from services.flusher import Commit, Conflict, Flusher, Guard, NewEvent, Receipt

T = TypeVar("T")

SQL = load("ledger.sql", "services")

CONFLICT_RETRIES_MAX: Final = 16
"""Decisions are taken again after a conflict; so many in a row mean something is wrong, not busy."""

ASSETS_LOADED_AT_ONCE: Final = 6
"""A job's first assets are read together with it: their ids follow from its id. More cost a second read."""

ANSWER_S_MAX: Final = 15.0
"""A caller waits at most so long for its commit: the flusher's own retry plus a queue."""


class Recorder(Protocol):
    """What the ledger needs of a recorder; both recorders are the library's, with these beside."""

    def append(self, commit: Commit) -> "Future[Receipt]":
        """Hand in a commit; the future holds its receipt, `Conflict` or `Unavailable`."""
        ...

    def read_after(self, position: int, limit: int) -> Sequence[Notification]:
        """The next events in ledger order."""
        ...

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[Notification]:
        """All events of these streams, each stream by version."""
        ...

    def head(self) -> int:
        """The last position, 0 for an empty ledger."""
        ...


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder on our `ledger` table. Writes go through the group commit; there is no NOTIFY."""

    def __init__(self, database: Database, flusher: Flusher) -> None:
        self._database = database
        self._flusher = flusher
        super().__init__(_Datastore(database.dsn), events_table_name="ledger")

    def create_table(self) -> None:
        """The schema belongs to the migrations."""

    def append(self, commit: Commit) -> "Future[Receipt]":
        """See `Recorder`."""
        return self._flusher.append(commit)

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """The library's way in: one commit. Raises `IntegrityError` when a stream has moved on."""
        return _insert_as_commit(self.append, stored_events)

    def read_after(self, position: int, limit: int) -> Sequence[Notification]:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            return _notifications(connection.execute(SQL["read_after"], (position, limit), prepare=True, binary=True))

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[Notification]:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            return _notifications(
                connection.execute(SQL["read_streams"], (list(stream_ids),), prepare=True, binary=True)
            )

    def head(self) -> int:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            row = connection.execute(SQL["head"]).fetchone()
        return cast("int", row[0]) if row else 0

    def max_notification_id(self) -> int | None:
        """The last position; None for an empty ledger, as the library wants it."""
        return self.head() or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Events as they are committed, by polling: a NOTIFY in the transaction would undo group commit."""
        return cast("Subscription[ApplicationRecorder]", _PollingSubscription(self, gt=gt, topics=topics))


class InMemoryRecorder(POPOApplicationRecorder):
    """The library's in-memory recorder with commits, guards and command ids. For tests."""

    def __init__(self, on_commit: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._served: dict[UUID, Receipt] = {}
        self._on_commit = on_commit

    def append(self, commit: Commit) -> "Future[Receipt]":
        """See `Recorder`; answers at once."""
        future: Future[Receipt] = Future()
        try:
            future.set_result(self._append(commit))
        except Conflict as conflict:
            future.set_exception(conflict)
        return future

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """The library's way in: one commit."""
        return _insert_as_commit(self.append, stored_events)

    def read_after(self, position: int, limit: int) -> Sequence[Notification]:
        """See `Recorder`."""
        return self.select_notifications(position, limit, inclusive_of_start=False)

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[Notification]:
        """See `Recorder`."""
        wanted = set(stream_ids)
        with self._database_lock:
            found = [
                Notification(stored.originator_id, stored.originator_version, stored.topic, stored.state, id=position)
                for position, stored in enumerate(self._stored_events, start=1)
                if stored.originator_id in wanted
            ]
        return sorted(found, key=lambda stored: (str(stored.originator_id), stored.originator_version))

    def head(self) -> int:
        """See `Recorder`."""
        return self.max_notification_id() or 0

    def _append(self, commit: Commit) -> Receipt:
        with self._database_lock:
            if commit.command_id in self._served:
                first = self._served[commit.command_id]
                return Receipt(first.first_position, first.last_position, repeated=True)
            if not self._fits(commit):
                raise Conflict("Another commit was faster on one of these streams.")
            stored = [StoredEvent(new.stream_id, new.version, new.topic, new.state) for new in commit.events]
            positions = self._update_table(stored) or []
            receipt = Receipt(positions[0], positions[-1])
            self._served[commit.command_id] = receipt
        self._notify_listeners()
        if self._on_commit is not None:
            self._on_commit(receipt.last_position)
        return receipt

    def _fits(self, commit: Commit) -> bool:
        ends: dict[UUID, int] = {}
        for new in commit.events:
            first = new.stream_id not in ends and not self._stored_events_index[str(new.stream_id)]
            end = ends.get(new.stream_id, self._version_of(new.stream_id))
            if new.version != end + 1 and not (first and new.version == 0):  # the library's own streams begin at 0
                return False
            ends[new.stream_id] = new.version
        return all(self._version_of(guard.stream_id) == guard.version for guard in commit.guards)

    def _version_of(self, stream_id: UUID) -> int:
        return max(self._stored_events_index[str(stream_id)], default=0)


class EventMapper(Mapper[UUID]):
    """Events under their stable names, as JSON with their envelope around; the library's topics are class paths."""

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__(JSONTranscoder())
        self._codec = codec or Codec()

    def encode(self, stream_id: UUID, version: int, event: Event, envelope: Envelope) -> NewEvent:
        """The event, ready to be appended."""
        topic, data = self._codec.encode(event)
        return NewEvent(stream_id, version, topic, orjson.dumps({"meta": envelope, "data": orjson.Fragment(data)}))

    def decode(self, stored: Notification) -> Recorded | Unreadable:
        """The event in its place; `Unreadable` when this version does not know it or its JSON is damaged."""
        stream_id = cast("UUID", stored.originator_id)
        try:
            state = orjson.loads(stored.state)
            topic, event, data = self._codec.decode(stored.topic, state["data"])
            envelope = _envelope(state["meta"])
        except (UnknownEvent, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            return Unreadable(stored.id, stream_id, stored.originator_version, stored.topic, reason)
        return Recorded(stored.id, stream_id, stored.originator_version, name_of(topic), event, data, envelope)


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event as it is stored: `state` is JSON, the envelope under `meta` and the event under `data`."""

    position: int
    stream_id: UUID
    version: int
    topic: str
    state: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks and why. `owner` None: a service that may act on everybody's jobs."""

    actor: str
    owner: str | None = None
    command_id: UUID | None = None
    causation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class JobExecuted:
    """What a command did to a job. `position` is that of its last event: read views from there."""

    generation: Generation
    decision: Decision
    position: int


@dataclass(frozen=True, slots=True)
class AssetExecuted:
    """What a command did to an asset."""

    asset: Asset
    events: tuple[AssetEvent, ...]
    position: int


class Ledger(Application[UUID]):
    """Commands in, events out. Thread-safe; every method may raise `Unavailable`."""

    def __init__(self, recorder: PostgresRecorder | InMemoryRecorder, mapper: EventMapper | None = None) -> None:
        self._given: Recorder = recorder
        self._mapper = mapper or EventMapper()
        super().__init__()

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Nothing to configure by the library's environment variables: our parts are given."""
        return POPOFactory(env)

    def construct_mapper(self) -> Mapper[UUID]:
        """Ours."""
        return self._mapper

    def construct_recorder(self) -> ApplicationRecorder:
        """Ours."""
        return cast("ApplicationRecorder", self._given)

    def execute(self, job_id: UUID, command: JobCommand, context: Context) -> JobExecuted:
        """Decide on a job and append what follows. Raises what the domain refuses; safe to repeat."""
        return _retry_conflicts(lambda attempt: self._decide_job(job_id, command, context, first=attempt == 0))

    def begin_submit(self, command: SubmitJob, context: Context) -> "Future[Receipt]":
        """Submit a new job without waiting for its commit. `Conflict`: its id is taken; `execute` says what follows.

        The future also holds `Unavailable`. For callers that cannot spare a thread for each commit.
        """
        nothing = Generation()
        decision = generations.decide(command, nothing)
        after = generations.evolve(nothing, decision)
        return self._given.append(
            self._job_commit(command.job_id, command, context, _Loaded(nothing, {}, 0), decision, after)
        )

    def execute_asset(self, asset: UUID, command: AssetCommand, context: Context) -> AssetExecuted:
        """The same for one asset."""
        return _retry_conflicts(lambda _: self._decide_asset(asset, command, context))

    def generation(self, job_id: UUID, *, owner: str | None = None) -> Generation:
        """The job and its assets as they are now. Raises `NotFound`, also for somebody else's job."""
        generation = self._load(job_id).generation
        _require_owner("job", job_id, jobs.owner_of(generation.job), owner)
        return generation

    def read(self, after: int, limit: int) -> list[Recorded | Unreadable]:
        """The next events in ledger order; no position is ever skipped."""
        return [self._mapper.decode(stored) for stored in self._given.read_after(after, limit)]

    def stream(self, stream_id: UUID) -> list[Recorded | Unreadable]:
        """All events of one stream by version."""
        return [self._mapper.decode(stored) for stored in self._given.read_streams([stream_id])]

    def read_raw(self, after: int, limit: int) -> list["RawEvent"]:
        """The same without decoding, for those who only pass them on."""
        return [
            RawEvent(
                stored.id, cast("UUID", stored.originator_id), stored.originator_version, stored.topic, stored.state
            )
            for stored in self._given.read_after(after, limit)
        ]

    def head(self) -> int:
        """The last position; 0 for an empty ledger."""
        return self._given.head()

    def _decide_job(self, job_id: UUID, command: JobCommand, context: Context, *, first: bool) -> JobExecuted:
        fresh = first and isinstance(
            command, SubmitJob
        )  # a new job has nothing to load; if it has, the append conflicts
        loaded = _Loaded(Generation(), {}, 0) if fresh else self._load(job_id)
        generation = loaded.generation
        if not isinstance(command, SubmitJob):
            _require_owner("job", job_id, jobs.owner_of(generation.job), context.owner)
        decision = generations.decide(command, generation)
        if not decision:
            return JobExecuted(generation, decision, loaded.position)
        after = generations.evolve(generation, decision)
        commit = self._job_commit(job_id, command, context, loaded, decision, after)
        receipt = self._append(commit)
        if receipt.repeated:
            return self._served(job_id, command, decision, receipt)
        return JobExecuted(after, decision, receipt.last_position)

    def _job_commit(
        self,
        job_id: UUID,
        command: JobCommand,
        context: Context,
        loaded: "_Loaded",
        decision: Decision,
        after: Generation,
    ) -> Commit:
        envelope = _new_envelope(context, cast("str", jobs.owner_of(after.job)), command.now, job_id)
        versions = dict(loaded.versions)
        events: list[NewEvent] = []
        # The job's own beginning stands before its assets, its end after theirs.
        opening, closing = (decision.job, ()) if isinstance(command, SubmitJob) else ((), decision.job)
        self._encode_onto(events, versions, job_id, opening, envelope)
        for index, asset_events in sorted(decision.assets.items()):
            self._encode_onto(events, versions, asset_id(job_id, index), asset_events, envelope)
        self._encode_onto(events, versions, job_id, closing, envelope)
        touched = {event.stream_id for event in events}
        guards = [Guard(stream, version) for stream, version in loaded.versions.items() if stream not in touched]
        return Commit(envelope.command_id, events, guards)

    def _served(self, job_id: UUID, command: JobCommand, decision: Decision, receipt: Receipt) -> JobExecuted:
        """The command id was served before, or its answer was lost: the ledger counts, not what was decided now."""
        generation = self._load(job_id).generation
        if isinstance(command, SubmitJob):
            job = generation.job
            if isinstance(job, jobs.NotSubmitted):
                raise IdempotencyKeyReused  # for another job
            if job.queued != decision.job[0]:
                decision = Decision(job=tuple(jobs.submit(command, job)))
        return JobExecuted(generation, decision, receipt.last_position)

    def _decide_asset(self, asset: UUID, command: AssetCommand, context: Context) -> AssetExecuted:
        state, version, position = self._load_asset(asset)
        _require_owner("asset", asset, assets_of.owner_of(state), context.owner)
        decided = tuple(assets_of.decide(command, state))
        if not decided:
            return AssetExecuted(state, (), position)
        correlation_id = cast("UUID", assets_of.job_of(state))
        envelope = _new_envelope(context, cast("str", assets_of.owner_of(state)), command.now, correlation_id)
        events: list[NewEvent] = []
        self._encode_onto(events, {asset: version}, asset, decided, envelope)
        receipt = self._append(Commit(envelope.command_id, events))
        for event in decided:
            state = assets_of.evolve(state, event)
        if receipt.repeated:
            state, _, _ = self._load_asset(asset)
        return AssetExecuted(state, decided, receipt.last_position)

    def _encode_onto(
        self, onto: list[NewEvent], versions: dict[UUID, int], stream: UUID, events: Iterable[Event], envelope: Envelope
    ) -> None:
        for event in events:
            versions[stream] = versions.get(stream, 0) + 1
            onto.append(self._mapper.encode(stream, versions[stream], event, envelope))

    def _append(self, commit: Commit) -> Receipt:
        try:
            return self._given.append(commit).result(timeout=ANSWER_S_MAX)
        except TimeoutError as error:
            raise Unavailable(f"The ledger did not answer within {ANSWER_S_MAX:g} s.") from error

    def _load(self, job_id: UUID) -> "_Loaded":
        guessed = [asset_id(job_id, index) for index in range(ASSETS_LOADED_AT_ONCE)]
        loaded = self._fold(job_id, guessed, self._given.read_streams([job_id, *guessed]))
        job = loaded.generation.job
        if isinstance(job, jobs.NotSubmitted) or job.queued.recipe.quantity <= len(guessed):
            return loaded
        every = [asset_id(job_id, index) for index in range(job.queued.recipe.quantity)]
        return self._fold(job_id, every, self._given.read_streams([job_id, *every]))

    def _fold(self, job_id: UUID, asset_ids: Sequence[UUID], stored: Sequence[Notification]) -> "_Loaded":
        recorded = [self._readable(one) for one in stored]
        job: jobs.Job = jobs.NotSubmitted()
        assets: dict[UUID, Asset] = {}
        for one in recorded:
            if one.stream_id == job_id:
                if not one.name.startswith("job."):
                    raise NotFound("job", job_id)
                job = jobs.evolve(job, cast("JobEvent", one.event))
            else:
                before = assets.get(one.stream_id, assets_of.Unknown())
                assets[one.stream_id] = assets_of.evolve(before, cast("AssetEvent", one.event))
        folded = tuple(assets[each] for each in asset_ids if each in assets)
        versions = {one.stream_id: one.version for one in recorded}
        return _Loaded(Generation(job, folded), versions, max((one.position for one in recorded), default=0))

    def _load_asset(self, asset: UUID) -> tuple[Asset, int, int]:
        state: Asset = assets_of.Unknown()
        version, position = 0, 0
        for stored in self._given.read_streams([asset]):
            recorded = self._readable(stored)
            if not recorded.name.startswith("asset."):
                raise NotFound("asset", asset)
            state = assets_of.evolve(state, cast("AssetEvent", recorded.event))
            version, position = recorded.version, recorded.position
        return state, version, position

    def _readable(self, stored: Notification) -> Recorded:
        recorded = self._mapper.decode(stored)
        if isinstance(recorded, Unreadable):
            raise UnknownEvent(f"Event {recorded.position} of the ledger cannot be read: {recorded.reason}")
        return recorded


@dataclass(frozen=True, slots=True)
class _Loaded:
    generation: Generation
    versions: dict[UUID, int]
    position: int


class _Datastore(PostgresDatastore):
    """The library's datastore from a DSN. It connects when first used, and needs no composite types."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        super().__init__(
            dbname=str(parts.pop("dbname", "")),
            host=str(parts.pop("host", "")),
            port=str(parts.pop("port", "")),
            user=str(parts.pop("user", "")),
            password=str(parts.pop("password", "")),
        )
        cast("dict[str, Any]", self.pool.kwargs).update(parts)

    def register_type_adapters(self) -> None:
        """Events travel as arrays."""


class _PollingSubscription(ListenNotifySubscription[PostgresRecorder]):
    """Wakes 20 times a second; the ledger itself never misses a position, so a poll loses nothing."""

    POLL_S = 0.05

    def __init__(self, recorder: PostgresRecorder, gt: int | None, topics: Sequence[str]) -> None:
        self._ended = threading.Event()  # before the library's thread starts: it calls `stop` when it fails
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        threading.Thread(target=self._tick, name="ledger-poll", daemon=True).start()

    def stop(self) -> None:
        """End the iteration."""
        self._ended.set()
        super().stop()

    def _tick(self) -> None:
        while not self._ended.wait(self.POLL_S):
            self._has_been_notified.set()


def _insert_as_commit(
    append: "Callable[[Commit], Future[Receipt]]", stored_events: Sequence[StoredEvent]
) -> Sequence[int] | None:
    if not stored_events:
        return []
    events = [
        NewEvent(cast("UUID", stored.originator_id), stored.originator_version, stored.topic, stored.state)
        for stored in stored_events
    ]
    try:
        receipt = append(Commit(uuid4(), events)).result(timeout=ANSWER_S_MAX)
    except Conflict as conflict:
        raise IntegrityError(str(conflict)) from conflict
    except Unavailable as error:
        raise OperationalError(str(error)) from error
    return list(range(receipt.first_position, receipt.last_position + 1))


def _notifications(rows: Iterable[tuple[Any, ...]]) -> list[Notification]:
    return [
        Notification(stream, version, topic, state, id=position) for position, stream, version, topic, state in rows
    ]


def _retry_conflicts(decide: "Callable[[int], T]") -> "T":
    for attempt in range(CONFLICT_RETRIES_MAX):
        try:
            return decide(attempt)
        except Conflict:
            continue
    raise Unavailable("The ledger is too busy on this job; try again.")


def _new_envelope(context: Context, owner: str, at: datetime, correlation_id: UUID) -> Envelope:
    return Envelope(
        actor=context.actor,
        owner=owner,
        at=at,
        command_id=context.command_id or uuid4(),
        correlation_id=correlation_id,
        causation_id=context.causation_id,
    )


def _envelope(meta: dict[str, Any]) -> Envelope:
    causation = meta["causation_id"]
    return Envelope(
        actor=meta["actor"],
        owner=meta["owner"],
        at=datetime.fromisoformat(meta["at"]),
        command_id=UUID(meta["command_id"]),
        correlation_id=UUID(meta["correlation_id"]),
        causation_id=None if causation is None else UUID(causation),
    )


def _require_owner(kind: str, identifier: UUID, actual: str | None, wanted: str | None) -> None:
    if actual is None or (wanted is not None and actual != wanted):
        raise NotFound(kind, identifier)
