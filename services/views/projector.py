"""Keeps the views up to date: reads the ledger, projects, and advances the checkpoint in the same transaction."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import groupby
from typing import Any, Final, TypeGuard
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor, sql
from psycopg.rows import TupleRow
from psycopg.sql import Identifier

from domain.bounds import MESSAGE_CHARACTERS_MAX, cut
from domain.codec import of_kinds
from domain.envelope import Recorded, Unreadable
from projections.projection import Projection
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.messaging.follower import pause_after
from services.observability import progress, telemetry
from services.scheduling import short_turns

log = logging.getLogger(__name__)

SQL = load("projector.sql", "services.views")

BATCH_EVENTS_MAX: Final = 4_000
"""Maximum number of events read and projected at a time: enough for set-wise SQL, few enough to keep views current."""

MANY_EVENTS: Final = 500
"""From this number on, events are applied in short turns: users of the API in the same process wait meanwhile."""

LIVE: Final = "live"


class Projector:
    """All views of an installation. Several projectors may run; a row lock lets one work at a time.

    A view advances only in the version of the code that made its rows: rows of two versions never mix. A view of
    another version stays readable and unchanged until it is rebuilt.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        views: Sequence[Projection],
        rebuild_outdated: Callable[[Callable[[], bool]], bool] = lambda _: True,
    ) -> None:
        """`rebuild_outdated` rebuilds views of another version until its argument returns true.

        It returns whether all are up to date.
        """
        self._database = database
        self._ledger = ledger
        self._views = {view.name: view for view in views}
        self._rebuild_outdated = rebuild_outdated
        self._reading: tuple[tuple[Sequence[str], int, int], Future[list[Recorded | Unreadable]]] | None = None

    async def run(self, broker: Broker, stop: asyncio.Event) -> None:
        """Project until stopped; waits out an outage of Postgres. Views of another version are rebuilt."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rebuild_others(broker, stop))
            await self._follow(broker, stop)

    async def _rebuild_others(self, broker: Broker, stop: asyncio.Event) -> None:
        follower = broker.follower()
        while not stop.is_set():
            try:
                if await asyncio.to_thread(self._rebuild_outdated, stop.is_set):
                    return
            except Unavailable as error:
                log.warning("the rebuild of views waits: %s", error)
            await follower.woken()

    async def _follow(self, broker: Broker, stop: asyncio.Event) -> None:
        follower = broker.follower()
        said = progress.of("projector")
        released = False
        while not stop.is_set():
            try:
                if not released:
                    await asyncio.to_thread(self.release)
                    released = True
                began = time.monotonic()
                if taken := await asyncio.to_thread(self.step):
                    broker.wake(0)  # for readers of views: they advanced
                    if taken < BATCH_EVENTS_MAX:
                        await asyncio.sleep(pause_after(time.monotonic() - began))
                    said.looked()
                    continue
                said.looked()
            except Unavailable as error:
                log.warning("views wait: %s", error)
                said.waits(error)
            await follower.woken()

    def step(self) -> int:
        """Project the next batch into every view; returns the number of events, 0 if all current views are complete."""
        with self._database.connection() as connection:
            progress = connection.execute(SQL["progress"], (list(self._views),), prepare=True).fetchall()
            if len(progress) < len(self._views):
                self._register(connection)
                progress = connection.execute(SQL["progress"], (list(self._views),)).fetchall()
            ours = [(view, position) for view, position, version in progress if version == self._views[view].version]
            groups = [(position, [view for view, _ in rows]) for position, rows in groupby(ours, lambda row: row[1])]
            if len(groups) > 1:
                self._reading = None  # all but one of them would read in vain
            return sum(self._advance(connection, names, position, len(groups) == 1) for position, names in groups)

    def release(self) -> int:
        """Try parked streams again: after a fix they continue where they stopped. Returns the number released."""
        with self._database.connection() as connection:
            return sum(self._release_view(connection, view) for view in self._views.values())

    def _register(self, connection: Connection[TupleRow]) -> None:
        rows = [(name, LIVE, view.version) for name, view in self._views.items()]
        connection.cursor().executemany(SQL["register"], rows)

    def _advance(self, connection: Connection[TupleRow], names: Sequence[str], position: int, read_ahead: bool) -> int:
        """Apply the next batch to views that are all at `position`."""
        head = self._ledger.head()
        upto = min(head, position + BATCH_EVENTS_MAX)
        if upto <= position:
            return 0
        with short_turns() if upto - position >= MANY_EVENTS else nullcontext():
            return self._take(connection, names, position, upto, head if read_ahead else upto)

    def _take(
        self, connection: Connection[TupleRow], names: Sequence[str], position: int, upto: int, read_upto: int
    ) -> int:
        kinds = [self._views[name].kinds for name in names]
        read = sorted({kind for some in kinds for kind in some}) if all(kinds) else []
        batch = self._read(read, position, upto, read_upto)
        with telemetry.batch_span("project", batch), connection.transaction():
            use_schema(connection, "views")
            cursor = connection.cursor()
            locked = cursor.execute(SQL["lock_progress"], (list(names),), prepare=True).fetchall()
            if any(at != position or version != self._views[name].version for name, at, version in locked):
                return upto - position  # another projector or a rebuild was faster: look again
            take_into([self._views[name] for name in names], batch, cursor)
            reached(Point.PROJECTOR_BEFORE_CHECKPOINT)
            cursor.execute(SQL["advance"], (upto, LIVE, list(names)), prepare=True)
            reached(Point.PROJECTOR_BEFORE_COMMIT)
        reached(Point.PROJECTOR_AFTER_COMMIT)
        return upto - position

    def _read(self, kinds: Sequence[str], position: int, upto: int, read_upto: int) -> Sequence[Recorded | Unreadable]:
        """The batch after `position`. While Postgres stores it, a full one after it is read, if `read_upto` allows."""
        asked, reading = self._reading or (None, None)
        self._reading = None
        if reading is not None and asked == (kinds, position, upto):
            batch = reading.result()
        else:
            batch = self._ledger.read_of(kinds, position, upto)
        following = upto + BATCH_EVENTS_MAX
        if following <= read_upto:
            reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="projector-reader")
            self._reading = (kinds, upto, following), reader.submit(self._ledger.read_of, kinds, upto, following)
            reader.shutdown(wait=False)  # its thread ends after the current read
        return batch

    def _release_view(self, connection: Connection[TupleRow], view: Projection) -> int:
        released = 0
        for (stream_id,) in connection.execute(SQL["parked"], (view.name, LIVE)).fetchall():
            try:
                with connection.transaction():
                    use_schema(connection, "views")
                    cursor = connection.cursor()
                    ((_, position, version),) = cursor.execute(SQL["lock_progress"], ([view.name],)).fetchall()
                    if version != view.version:
                        return released
                    unparked = cursor.execute(SQL["unpark"], (view.name, LIVE, stream_id)).fetchall()
                    if not unparked:
                        continue  # another projector was faster
                    first = min(at for (at,) in unparked)
                    view.project(self._stream_between(view, stream_id, first, position), cursor)
                released += 1
            except Unavailable:
                raise
            except Exception as error:
                log.warning("view %s still cannot take stream %s: %s", view.name, stream_id, error)
        return released

    def _stream_between(self, view: Projection, stream_id: UUID, first: int, last: int) -> list[Recorded]:
        stream = wanted(view, self._ledger.stream(stream_id))
        events = [event for event in stream if first <= event.position <= last]
        unreadable = next((event for event in events if isinstance(event, Unreadable)), None)
        if unreadable is not None:
            raise ValueError(unreadable.reason)
        return [event for event in events if isinstance(event, Recorded)]


def use_schema(connection: Connection[TupleRow], schema: str) -> None:
    """Within this transaction, resolve unqualified table names in `schema`, and return times in UTC."""
    connection.execute(SQL["use_schema"], (f"{schema}, public",), prepare=True)


def take_into(views: Sequence[Projection], batch: Sequence[Recorded | Unreadable], cursor: Cursor[TupleRow]) -> None:
    """Apply a batch to live views: to all at once if possible, else to each separately."""
    shares = [(view, wanted(view, batch)) for view in views]
    readable = [(view, share) for view, share in shares if is_readable(share)]
    names = [view.name for view in views]
    parked = cursor.execute(SQL["any_parked"], (LIVE, names), prepare=True).fetchall()
    if not parked and len(readable) == len(shares) and _refusal(readable, cursor) is None:
        return
    for view, share in shares:
        take(view, LIVE, share, cursor)


def is_readable(events: Sequence[Recorded | Unreadable]) -> TypeGuard[Sequence[Recorded]]:
    """Whether this version can read every one of them."""
    return all(isinstance(event, Recorded) for event in events)


def wanted(view: Projection, events: Sequence[Recorded | Unreadable]) -> Sequence[Recorded | Unreadable]:
    """The events of the view's kinds."""
    kinds = tuple(view.kinds)
    return [event for event in events if of_kinds(event.name, kinds)] if kinds else events


def take(view: Projection, slot: str, batch: Sequence[Recorded | Unreadable], cursor: Cursor[TupleRow]) -> None:
    """Apply a batch to a view: at once if possible, else one by one, parking events that the view cannot apply.

    A parked stream keeps its state before the poisoned event; all its later events are parked too, none is skipped.
    """
    parked = {stream for (stream,) in cursor.execute(SQL["parked_streams"], (view.name, slot), prepare=True).fetchall()}
    if not parked and is_readable(batch):
        reason = _refusal([(view, batch)], cursor)
        if reason is None:
            return
        log.error("view %s cannot take a batch as a whole; its events are tried one by one: %s", view.name, reason)
    for event in batch:
        reason = (
            "an earlier event of this stream is parked" if event.stream_id in parked else _reason(view, event, cursor)
        )
        if reason is not None:
            if event.stream_id not in parked:
                log.error("view %s parks stream %s at %d: %s", view.name, event.stream_id, event.position, reason)
            parked.add(event.stream_id)
            told = cut(reason, MESSAGE_CHARACTERS_MAX)
            cursor.execute(SQL["park"], (view.name, slot, event.stream_id, event.position, told))


def _reason(view: Projection, event: Recorded | Unreadable, cursor: Cursor[TupleRow]) -> str | None:
    return event.reason if isinstance(event, Unreadable) else _refusal([(view, [event])], cursor)


def _refusal(shares: Sequence[tuple[Projection, Sequence[Recorded]]], cursor: Cursor[TupleRow]) -> str | None:
    """Why one of the views cannot apply its events, after a rollback; None if all of them did."""
    try:
        with cursor.connection.transaction():
            for view, events in shares:
                view.project(events, cursor)
    except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex) as error:
        return f"{type(error).__name__}: {error}"  # an OperationalError by class, but caused by the event
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise  # Postgres is at fault, not the event
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def checksum(connection: Connection[TupleRow], tables: Iterable[str]) -> tuple[int, str]:
    """Row count and checksum over tables of the current search path; equal rows, in any order, give equal sums."""
    total, sums = 0, []
    for table in tables:
        query = sql.SQL(SQL["checksum"])
        row: Any = connection.execute(query.format(Identifier(table))).fetchone()
        total += row[0]
        sums.append(row[1])
    return total, ":".join(sums)
