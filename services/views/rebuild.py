"""Rebuild a view from the ledger next to the live one, and swap them; or build it as of a position."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, LiteralString, cast

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from psycopg.sql import Identifier

from domain.envelope import Recorded, Unreadable
from projections.projection import Projection
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable, translated
from services.ledger import Ledger
from services.observability import progress
from services.views.projector import checksum, take, use_schema

log = logging.getLogger(__name__)

SQL = load("rebuild.sql", "services.views")

BATCH_EVENTS_MAX: Final = 5_000
"""Maximum number of events per batch; larger than the projector's, because no reader waits and rows are stored less
often."""

NEARLY_THERE_EVENTS: Final = BATCH_EVENTS_MAX
"""Distance in events to the live view at which the swap begins; the rest is applied while the live view is paused."""


SWAP_EVENTS: Final = 200
"""Maximum number of events left to apply while the live view is paused."""

SWAP_LOCK_MS: Final = 200
"""Milliseconds for which the swap waits for the table locks; later readers wait behind it as long."""

SWAP_PAUSE_S: Final = 0.2
SWAP_PAUSE_S_MAX: Final = 5.0
"""Maximum seconds between two attempts; the pause grows."""

READER_REMEDY: Final = (
    "Wait for a backup (pg_dump) that runs; else end the transaction: darkroom doctor and pg_stat_activity name it."
)


class RebuildRunning(Exception):
    """Another process is rebuilding the view. Wait until it ends."""

    code = "rebuild_running"


class RebuildStopped(Exception):
    """The program is stopping. The live view is unchanged; the next rebuild starts from the beginning."""

    code = "rebuild_stopped"


class PositionUnknown(Exception):
    """The position is beyond the end of the ledger."""

    code = "position_unknown"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Result of a rebuild.

    `same`: the live view had equal rows at that position; None: there was nothing to compare.
    """

    view: str
    position: int
    seconds: float
    rows: int
    checksum: str
    same: bool | None

    @property
    def events_per_s(self) -> float:
        """Ledger events read and projected per second."""
        return self.position / max(self.seconds, 1e-9)


def rebuild(
    database: Database, ledger: Ledger, view: Projection, stopping: Callable[[], bool] = lambda: False
) -> Rebuilt:
    """Build `view` next to the live one, compare, swap in one transaction, keep the old one in `views_previous`.

    Writes and reads continue: the live view advances meanwhile and pauses only for the last events and the swap, less
    than a second. A reader in a long transaction delays the swap. Raises `RebuildRunning`, and `RebuildStopped` when
    `stopping` returns true.
    """
    started = time.monotonic()
    with _alone(database, view) as still_alone, database.connection() as connection:
        log.info("the view %s is rebuilt", view.name)
        connection.execute(SQL["register_live"], (view.name, view.version))
        connection.execute(SQL["begin_next"], (view.name, view.version))
        _create_tables(connection, view, "views_next")
        reached(Point.REBUILD_AFTER_TABLES)
        beside = _Beside(connection, ledger, view, stopping)
        beside.catch_up(NEARLY_THERE_EVENTS)
        for table in view.tables:  # else Postgres plans without statistics until autovacuum runs
            _analyze(connection, "views_next", table)
        with database.connection() as another:
            rows, fresh, before = _compare(another, beside)
        position = beside.position
        for table in view.tables:  # before the swap: deleting the files of a large table takes a while
            connection.execute(sql.SQL(SQL["drop_table"]).format(Identifier("views_previous", table)))
        _swap_when_free(beside, still_alone)
        reached(Point.REBUILD_AFTER_SWAP)
    return Rebuilt(view.name, position, time.monotonic() - started, rows, fresh, same=fresh == before)


@dataclass(slots=True)
class _Beside:
    """The new view and the position that it has reached."""

    connection: Connection[TupleRow]
    ledger: Ledger
    view: Projection
    stopping: Callable[[], bool]
    position: int = 0

    def catch_up(self, near: int) -> None:
        """Fill it until it is within `near` events of the live one. Raises `RebuildStopped`."""
        while (live := _position(self.connection, self.view, SQL["live_position"])) - self.position > near:
            self.fill(live)

    def fill(self, upto: int) -> None:
        """Fill it up to a position. Raises `RebuildStopped`."""
        for filled in fill(self.connection, self.ledger, self.view, "next", self.position, upto):
            self.connection.execute(SQL["advance_next"], (filled, self.view.name))
            self.stop_if_told(filled)
        self.position = max(self.position, upto)

    def stop_if_told(self, position: int) -> None:
        """Raises `RebuildStopped` when the program is stopping."""
        if self.stopping():
            raise RebuildStopped(f"The rebuild of the view {self.view.name} was stopped at position {position}.")


def _compare(connection: Connection[TupleRow], beside: _Beside) -> tuple[int, str, str]:
    """Row count and checksum of the new view, and the checksum of the live one, at one position, without blocking.

    The live view is read in a snapshot, so it may advance; the new one is filled up to the position of the snapshot.
    Raises `Unavailable`, and `RebuildStopped`.
    """
    view = beside.view
    with connection.transaction():
        connection.execute(SQL["snapshot"])
        live = _position(connection, view, SQL["live_position"])
        if live < beside.position:
            went_back = f"The live view {view.name} went back from position {beside.position} to {live}"
            raise Unavailable(f"{went_back}: Postgres was restored meanwhile.", reason="transaction_ended")
        beside.fill(live)
        _, before = _checksum(connection, view, "views")
    with beside.connection.transaction():
        rows, fresh = _checksum(beside.connection, view, "views_next")
    return rows, fresh, before


def _swap_when_free(beside: _Beside, still_alone: Callable[[], None]) -> None:
    """Swap as soon as the tables are not locked. Each attempt blocks later readers only briefly.

    Raises `RebuildStopped`, and `Unavailable` when the lock of the rebuild was lost.
    """
    said = progress.of(f"rebuild of the view {beside.view.name}")
    began, attempt = time.monotonic(), 0
    try:
        while True:
            still_alone()
            beside.catch_up(SWAP_EVENTS)
            try:
                return _swap_at_once(beside)
            except psycopg.errors.LockNotAvailable:
                attempt += 1
                said.waits("another transaction is reading its tables", "swap_waits", READER_REMEDY)
                if attempt in {10, 100, 1_000}:
                    waited_s = time.monotonic() - began
                    log.warning("the rebuilt view %s has waited %.0f s for a reader", beside.view.name, waited_s)
            beside.stop_if_told(beside.position)
            time.sleep(min(SWAP_PAUSE_S_MAX, SWAP_PAUSE_S * attempt))
    finally:
        progress.forget(said.service)


def _swap_at_once(beside: _Beside) -> None:
    """Apply the last events and swap, in one transaction. Raises `LockNotAvailable` with nothing changed."""
    connection, view = beside.connection, beside.view
    with connection.transaction():
        live = _position(connection, view, SQL["hold_live"])  # only the projector waits for this
        for _ in fill(connection, beside.ledger, view, "next", beside.position, live):
            pass
        connection.execute(SQL["soon_or_never"], {"ms": str(SWAP_LOCK_MS)})
        tables = [Identifier("views", table) for table in sorted(view.tables)]
        connection.execute(sql.SQL(SQL["lock_tables"]).format(sql.SQL(", ").join(tables)))
        _swap(connection, view)


def rebuild_outdated(
    database: Database, ledger: Ledger, views: Sequence[Projection], stopping: Callable[[], bool] = lambda: False
) -> bool:
    """Rebuild each of `views` that another version of its code made; returns whether all are up to date.

    False: another process is rebuilding one of them, or the program is `stopping`; call again. Until the swap the old
    rows stay readable. Raises `Unavailable`.
    """
    with database.connection() as connection:
        rows = connection.execute(SQL["live_versions"], ([view.name for view in views],)).fetchall()
    versions: dict[str, int] = dict(rows)
    outdated = [view for view in views if versions.get(view.name, view.version) != view.version]
    done = True
    for view in outdated:
        if stopping():
            return False
        try:
            rebuilt = rebuild(database, ledger, view, stopping)
        except (RebuildRunning, RebuildStopped):
            done = False
        else:
            was, now = versions[view.name], view.version
            log.info("the view %s went from version %d to %d in %.1f s", view.name, was, now, rebuilt.seconds)
    return done


def rebuild_as_of(database: Database, ledger: Ledger, view: Projection, position: int) -> Rebuilt:
    """Build `view` as of `position` into the schema `views_as_of`. The live view is not touched.

    Raises `PositionUnknown` and `RebuildRunning`.
    """
    started = time.monotonic()
    head = ledger.head()
    if not 0 <= position <= head:
        raise PositionUnknown(f"The ledger holds positions 1 to {head}; there is no position {position}.")
    with _alone(database, view), database.connection() as connection:
        _create_tables(connection, view, "views_as_of")
        for _ in fill(connection, ledger, view, "as_of", 0, position):
            pass
        with connection.transaction():
            rows, total = _checksum(connection, view, "views_as_of")
    return Rebuilt(view.name, position, time.monotonic() - started, rows, total, same=None)


def matches_ledger(database: Database, ledger: Ledger, view: Projection) -> Rebuilt:
    """Fold the ledger again into temporary tables and compare with the live view at its own position."""
    started = time.monotonic()
    with database.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute(SQL["snapshot"])
        position = _position(connection, view, SQL["live_position"])
        _, live = _checksum(connection, view, "views")
        for table in view.tables:
            statement = sql.SQL(SQL["create_temporary"])
            connection.execute(statement.format(Identifier(table), Identifier("views", table)))
        for _ in fill(connection, ledger, view, "check", 0, position):
            pass
        rows, folded = _checksum(connection, view, "pg_temp")
    return Rebuilt(view.name, position, time.monotonic() - started, rows, folded, same=folded == live)


SCHEMAS: Final = {"next": "views_next", "as_of": "views_as_of", "check": "pg_temp"}


def fill(
    connection: Connection[TupleRow], ledger: Ledger, view: Projection, slot: str, after: int, upto: int
) -> Iterator[int]:
    """Project the events after `after` up to `upto` into the tables of `slot`; yields the position after each batch."""
    if after == 0:
        connection.execute(SQL["forget_parked"], (view.name, slot))
    if after >= upto:
        return
    for end, batch in _batches(ledger, view, after, upto):
        with connection.transaction():
            use_schema(connection, SCHEMAS[slot])
            take(view, slot, batch, connection.cursor())
        reached(Point.REBUILD_AFTER_BATCH)
        yield end


def _batches(
    ledger: Ledger, view: Projection, after: int, upto: int
) -> Iterator[tuple[int, Sequence[Recorded | Unreadable]]]:
    """The events in batches, each with its last position. The next is read while Postgres stores the one before."""

    def read(start: int) -> Sequence[Recorded | Unreadable]:
        # some positions may be missing; darkroom verify names them
        return ledger.read_of(view.kinds, start, min(start + BATCH_EVENTS_MAX, upto))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rebuild-reader") as reader:
        reading = reader.submit(read, after)
        for following in range(after + BATCH_EVENTS_MAX, upto + BATCH_EVENTS_MAX, BATCH_EVENTS_MAX):
            batch = reading.result()
            if following < upto:
                reading = reader.submit(read, following)
            yield min(following, upto), batch


def _create_tables(connection: Connection[TupleRow], view: Projection, schema: str) -> None:
    with connection.transaction():
        for table in view.tables:
            there = Identifier(schema, table)
            connection.execute(sql.SQL(SQL["drop_table"]).format(there))
            connection.execute(sql.SQL(SQL["create_table"]).format(there, Identifier("views", table)))


def _analyze(connection: Connection[TupleRow], schema: str, table: str) -> None:
    columns = connection.execute(SQL["analyzed_columns"], (f"{schema}.{table}",)).fetchall()
    named = sql.SQL(", ").join(Identifier(name) for (name,) in columns)
    connection.execute(sql.SQL(SQL["analyze_table"]).format(Identifier(schema, table), named))


def _swap(connection: Connection[TupleRow], view: Projection) -> None:
    """Swap the schemas. Only live tables may be read: rights are granted as a table becomes live."""
    for table in sorted(view.tables):  # queries lock tables in this order too: assets, then jobs
        for schema, destination in (("views", "views_previous"), ("views_next", "views")):
            moved = sql.SQL(SQL["move_table"]).format(Identifier(schema, table), Identifier(destination))
            connection.execute(moved)
            reached(Point.REBUILD_IN_SWAP)
        _keep_index_names(connection, table)
        connection.execute(SQL["secure_table"], (f"views.{table}",))
    connection.execute(SQL["forget_parked"], (view.name, "live"))
    connection.execute(SQL["promote_parked"], (view.name,))
    connection.execute(SQL["promote_version"], (view.version, view.name))
    connection.execute(SQL["end_next"], (view.name,))


def _keep_index_names(connection: Connection[TupleRow], table: str) -> None:
    """Rename the indexes, because migrations refer to them by name."""
    tables = f"views.{table}", f"views_previous.{table}"
    for named, name in connection.execute(SQL["index_names"], tables).fetchall():
        statement = sql.SQL(SQL["rename_index"])
        connection.execute(statement.format(Identifier("views", named), Identifier(name)))


def _checksum(connection: Connection[TupleRow], view: Projection, schema: str) -> tuple[int, str]:
    use_schema(connection, schema)
    return checksum(connection, view.tables)


def _position(connection: Connection[TupleRow], view: Projection, query: LiteralString) -> int:
    row = connection.execute(query, (view.name,)).fetchone()
    return 0 if row is None else cast("int", row[0])


@contextmanager
def _alone(database: Database, view: Projection) -> Iterator[Callable[[], None]]:
    """One rebuild of a view at a time; a crash releases the lock with its connection.

    The lock belongs to a transaction that stays open on a separate connection, so it works behind a pooler too. The
    yielded function raises `Unavailable` if that connection, and with it the lock, is lost.
    """
    with database.connection() as connection, connection.transaction():
        row = connection.execute(SQL["try_lock"], (view.name,)).fetchone()
        if row is None or not row[0]:
            raise RebuildRunning(f"The view {view.name} is being rebuilt already; wait until that has ended.")

        def still_alone() -> None:
            with translated():
                connection.execute(SQL["is_there"])

        yield still_alone
