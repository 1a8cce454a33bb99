"""Storage of events in Postgres, and in memory for tests: the library's recorders, extended by commits."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID, uuid4

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    OperationalError,
    StoredEvent,
    Subscription,
)
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from domain.codec import of_kinds
from projections.arrays import uuids
from projections.sql import load
from services.database import Database, Unavailable
from services.ledger.commits import Commit, Conflict, NewEvent, Receipt
from services.ledger.flusher import Flusher
from services.restore.epochs import Epochs, read_epochs, stop_writes, stopped_reason

SQL = load("recorders.sql", "services.ledger")


class RawEvent(NamedTuple):
    """An event as it is stored: `state` is JSON, the envelope under `meta` and the event under `data`."""

    position: int
    stream_id: UUID
    version: int
    topic: str
    state: bytes


class Recorder(Protocol):
    """The methods that the ledger needs in addition to the library's; both recorders have them."""

    def append(self, commit: Commit) -> "Future[Receipt]":
        """Submit a commit; the future holds its receipt, `Conflict` or `Unavailable`."""
        ...

    def write(self, commit: Commit) -> Receipt:
        """Submit a commit and wait for its receipt. Raises `Conflict` or `Unavailable`."""
        ...

    def write_each(self, commits: Sequence[Commit]) -> Sequence[Receipt | Conflict]:
        """Submit several commits and wait for each verdict. Raises `Unavailable`."""
        ...

    def read_after(self, position: int, limit: int) -> Sequence[RawEvent]:
        """The next events in ledger order."""
        ...

    def read_of(self, position: int, upto: int, kinds: Sequence[str]) -> Sequence[RawEvent]:
        """The events after `position` up to `upto` of these kinds (see `domain.codec.of_kinds`)."""
        ...

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[RawEvent]:
        """All events of these streams, each stream by version."""
        ...

    def read_first(self, stream_id: UUID) -> RawEvent | None:
        """The first event of a stream; None if the stream is empty."""
        ...

    def head(self) -> int:
        """The last position, 0 for an empty ledger."""
        ...

    def epochs(self) -> Epochs:
        """The incarnations of this ledger."""
        ...

    def stop(self, reason: str) -> None:
        """Refuse every append from now on, in every process, until `darkroom restored`."""
        ...

    def stopped(self) -> str | None:
        """Why appends are refused; None if they are accepted."""
        ...

    def when_restored(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the ledger turns out to be another incarnation."""
        ...


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder on our `ledger` table. Writes go through the group commit; there is no NOTIFY."""

    def __init__(self, database: Database, flusher: Flusher) -> None:
        self._database = database
        self._flusher = flusher
        super().__init__(_Datastore(database.dsn), events_table_name="ledger")

    def create_table(self) -> None:
        """Overridden: the migrations create the schema."""

    def append(self, commit: Commit) -> "Future[Receipt]":
        """See `Recorder`."""
        return self._flusher.append(commit)

    def write(self, commit: Commit) -> Receipt:
        """See `Recorder`."""
        return self._flusher.write(commit)

    def write_each(self, commits: Sequence[Commit]) -> Sequence[Receipt | Conflict]:
        """See `Recorder`."""
        return self._flusher.write_each(commits)

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """The library's insert: one commit. Raises `IntegrityError` when a stream has moved on."""
        return _insert_as_commit(self.write, stored_events)

    def read_after(self, position: int, limit: int) -> Sequence[RawEvent]:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            found = connection.execute(SQL["read_after"], (position, limit), prepare=True, binary=True).fetchall()
        return [*map(RawEvent._make, found)]

    def read_of(self, position: int, upto: int, kinds: Sequence[str]) -> Sequence[RawEvent]:
        """See `Recorder`. Raises `Unavailable`."""
        arguments = {"after": position, "upto": upto, "kinds": list(kinds)}
        with self._database.connection() as connection:
            found = connection.execute(SQL["read_of"], arguments, prepare=True, binary=True).fetchall()
        return [*map(RawEvent._make, found)]

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[RawEvent]:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            found = connection.execute(SQL["read_streams"], (uuids(stream_ids),), prepare=True, binary=True).fetchall()
        return [*map(RawEvent._make, found)]

    def read_first(self, stream_id: UUID) -> RawEvent | None:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            found = connection.execute(SQL["read_first"], (stream_id,), prepare=True, binary=True).fetchone()
        return None if found is None else RawEvent._make(found)

    def head(self) -> int:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            row = connection.execute(SQL["head"]).fetchone()
        return cast("int", row[0]) if row else 0

    def epochs(self) -> Epochs:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            return Epochs(read_epochs(connection))

    def stop(self, reason: str) -> None:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            stop_writes(connection, reason)

    def stopped(self) -> str | None:
        """See `Recorder`. Raises `Unavailable`."""
        with self._database.connection() as connection:
            return stopped_reason(connection)

    def when_restored(self, forget: Callable[[], None]) -> None:
        """See `Recorder`."""
        self._flusher.when_restored(forget)

    def max_notification_id(self) -> int | None:
        """The last position; None for an empty ledger, as the library expects."""
        return self.head() or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Events as they are committed, by polling: a NOTIFY in the transaction would defeat group commit."""
        return cast("Subscription[ApplicationRecorder]", _PollingSubscription(self, gt=gt, topics=topics))


class InMemoryRecorder(POPOApplicationRecorder):
    """The library's in-memory recorder with commits, guards and command ids. For tests."""

    def __init__(self, on_commit: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._served: dict[UUID, Receipt] = {}
        self._on_commit = on_commit

    def append(self, commit: Commit) -> "Future[Receipt]":
        """See `Recorder`; the future is already done."""
        future: Future[Receipt] = Future()
        try:
            future.set_result(self.write(commit))
        except Conflict as conflict:
            future.set_exception(conflict)
        return future

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """The library's insert: one commit."""
        return _insert_as_commit(self.write, stored_events)

    def read_after(self, position: int, limit: int) -> Sequence[RawEvent]:
        """See `Recorder`."""
        return [_raw(stored) for stored in self.select_notifications(position, limit, inclusive_of_start=False)]

    def read_of(self, position: int, upto: int, kinds: Sequence[str]) -> Sequence[RawEvent]:
        """See `Recorder`."""
        found = self.select_notifications(position, upto - position, stop=upto, inclusive_of_start=False)
        return [_raw(stored) for stored in found if of_kinds(stored.topic, tuple(kinds))]

    def read_streams(self, stream_ids: Sequence[UUID]) -> Sequence[RawEvent]:
        """See `Recorder`."""
        wanted = set(stream_ids)
        with self._database_lock:
            found = [
                RawEvent(
                    position, cast("UUID", stored.originator_id), stored.originator_version, stored.topic, stored.state
                )
                for position, stored in enumerate(self._stored_events, start=1)
                if stored.originator_id in wanted
            ]
        return sorted(found, key=lambda raw: (str(raw.stream_id), raw.version))

    def read_first(self, stream_id: UUID) -> RawEvent | None:
        """See `Recorder`."""
        return next(iter(self.read_streams([stream_id])), None)

    def head(self) -> int:
        """See `Recorder`."""
        return self.max_notification_id() or 0

    def epochs(self) -> Epochs:
        """See `Recorder`: an in-memory ledger is never restored."""
        return Epochs(())

    def stop(self, reason: str) -> None:
        """See `Recorder`: does nothing."""
        raise NotImplementedError(reason)

    def stopped(self) -> str | None:
        """See `Recorder`: always None."""
        return None

    def when_restored(self, forget: Callable[[], None]) -> None:
        """See `Recorder`: does nothing."""

    def write(self, commit: Commit) -> Receipt:
        """See `Recorder`."""
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

    def write_each(self, commits: Sequence[Commit]) -> Sequence[Receipt | Conflict]:
        """See `Recorder`."""
        return [self._verdict(commit) for commit in commits]

    def _verdict(self, commit: Commit) -> Receipt | Conflict:
        try:
            return self.write(commit)
        except Conflict as conflict:
            return conflict

    def _fits(self, commit: Commit) -> bool:
        """The rule of `ledger_append`, which has it in SQL: see migrations/README.md for all copies."""
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


class _Datastore(PostgresDatastore):
    """The library's datastore from a DSN. It connects on first use and needs no composite types."""

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
        """Overridden: events are sent as arrays."""


class _PollingSubscription(ListenNotifySubscription[PostgresRecorder]):
    """Polls 20 times a second; the ledger never skips a position, so polling loses nothing."""

    POLL_S = 0.05

    def __init__(self, recorder: PostgresRecorder, gt: int | None, topics: Sequence[str]) -> None:
        self._ended = threading.Event()  # set before the library's thread starts: it calls `stop` when it fails
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        threading.Thread(target=self._tick, name="ledger-poll", daemon=True).start()

    def stop(self) -> None:
        """End the iteration."""
        self._ended.set()
        super().stop()

    def _tick(self) -> None:
        while not self._ended.wait(self.POLL_S):
            self._has_been_notified.set()


def _insert_as_commit(write: Callable[[Commit], Receipt], stored_events: Sequence[StoredEvent]) -> Sequence[int] | None:
    if not stored_events:
        return []
    events = [
        NewEvent(cast("UUID", stored.originator_id), stored.originator_version, stored.topic, stored.state)
        for stored in stored_events
    ]
    try:
        receipt = write(Commit(uuid4(), events))
    except Conflict as conflict:
        raise IntegrityError(str(conflict)) from conflict
    except Unavailable as error:
        raise OperationalError(str(error)) from error
    return list(range(receipt.first_position, receipt.last_position + 1))


def _raw(stored: Notification) -> RawEvent:
    return RawEvent(
        stored.id, cast("UUID", stored.originator_id), stored.originator_version, stored.topic, stored.state
    )
