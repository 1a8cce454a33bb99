"""Build a view anew from the ledger, beside the live one, and swap; or build it as it was at a position."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, LiteralString, cast

from psycopg import Connection, sql
from psycopg.rows import TupleRow
from psycopg.sql import Identifier

from domain.envelope import Recorded, Unreadable
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database
from services.ledger import Ledger
from services.projector import View, checksum, take, use_schema

log = logging.getLogger(__name__)

SQL = load("rebuild.sql", "services")

BATCH_EVENTS_MAX: Final = 5_000
"""Longer strides than the live view's: nobody waits for these rows, and a job is stored less often."""

NEARLY_THERE_EVENTS: Final = BATCH_EVENTS_MAX
"""So near to the live view the swap begins; the rest is caught up while the live view holds still."""


class RebuildRunning(Exception):
    """The view is being rebuilt by somebody else. Wait for that one to end."""

    code = "rebuild_running"


class RebuildStopped(Exception):
    """The program ends. The live view is as it was; the next rebuild begins anew."""

    code = "rebuild_stopped"


class PositionUnknown(Exception):
    """The ledger does not reach so far."""

    code = "position_unknown"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `same`: equal rows in the view that was live at that position; None: nothing to compare."""

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


def rebuild(database: Database, ledger: Ledger, view: View, stopping: Callable[[], bool] = lambda: False) -> Rebuilt:
    """Build `view` beside the live one, swap in one transaction, keep the old one in `views_previous`.

    Jobs keep flowing: the live view goes on all the while, and holds still only for the last events, the checksums and
    the swap. Raises `RebuildRunning`, and `RebuildStopped` when it is told that the program is `stopping`.
    """
    started = time.monotonic()
    with database.connection() as connection, _alone(connection, view):
        log.info("the view %s is rebuilt", view.name)
        connection.execute(SQL["register_live"], (view.name, view.version))
        connection.execute(SQL["begin_next"], (view.name, view.version))
        _create_tables(connection, view, "views_next")
        reached(Point.REBUILD_AFTER_TABLES)
        position = 0
        while (live := _position(connection, view, SQL["live_position"])) - position > NEARLY_THERE_EVENTS:
            for filled in fill(connection, ledger, view, "next", position, live):
                connection.execute(SQL["advance_next"], (filled, view.name))
                if stopping():
                    raise RebuildStopped(f"The rebuild of the view {view.name} was stopped at position {filled}.")
            position = live
        for table in view.tables:  # else Postgres would plan without knowing the table until it looks by itself
            _analyze(connection, "views_next", table)
        with connection.transaction():
            live = _position(connection, view, SQL["hold_live"])
            for _ in fill(connection, ledger, view, "next", position, live):
                pass
            rows, fresh = _checksum(connection, view, "views_next")
            _, before = _checksum(connection, view, "views")
            _swap(connection, view)
        reached(Point.REBUILD_AFTER_SWAP)
    return Rebuilt(view.name, live, time.monotonic() - started, rows, fresh, same=fresh == before)


def rebuild_outdated(
    database: Database, ledger: Ledger, views: Sequence[View], stopping: Callable[[], bool] = lambda: False
) -> bool:
    """Rebuild each of `views` whose rows another version of its code made; whether all are up to date then.

    False: somebody else rebuilds one of them right now, or the program is `stopping`; ask again. Until the swap the
    rows of the other version can be read. Raises `Unavailable`.
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


def rebuild_as_of(database: Database, ledger: Ledger, view: View, position: int) -> Rebuilt:
    """Build `view` as it was at `position` into the schema `views_as_of`. The live view is not touched.

    Raises `PositionUnknown` and `RebuildRunning`.
    """
    started = time.monotonic()
    head = ledger.head()
    if not 0 <= position <= head:
        raise PositionUnknown(f"The ledger holds positions 1 to {head}; there is no position {position}.")
    with database.connection() as connection, _alone(connection, view):
        _create_tables(connection, view, "views_as_of")
        for _ in fill(connection, ledger, view, "as_of", 0, position):
            pass
        with connection.transaction():
            rows, total = _checksum(connection, view, "views_as_of")
    return Rebuilt(view.name, position, time.monotonic() - started, rows, total, same=None)


def matches_ledger(database: Database, ledger: Ledger, view: View) -> Rebuilt:
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
    connection: Connection[TupleRow], ledger: Ledger, view: View, slot: str, after: int, upto: int
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
    ledger: Ledger, view: View, after: int, upto: int
) -> Iterator[tuple[int, Sequence[Recorded | Unreadable]]]:
    """The events by batches, each with its last position. The next is read while Postgres stores the one before."""

    def read(start: int) -> Sequence[Recorded | Unreadable]:
        # some positions may be missing; darkroom verify says which
        return ledger.read_of(view.kinds, start, min(start + BATCH_EVENTS_MAX, upto))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rebuild-reader") as reader:
        reading = reader.submit(read, after)
        for following in range(after + BATCH_EVENTS_MAX, upto + BATCH_EVENTS_MAX, BATCH_EVENTS_MAX):
            batch = reading.result()
            if following < upto:
                reading = reader.submit(read, following)
            yield min(following, upto), batch


def _create_tables(connection: Connection[TupleRow], view: View, schema: str) -> None:
    with connection.transaction():
        for table in view.tables:
            there = Identifier(schema, table)
            connection.execute(sql.SQL(SQL["drop_table"]).format(there))
            connection.execute(sql.SQL(SQL["create_table"]).format(there, Identifier("views", table)))


def _analyze(connection: Connection[TupleRow], schema: str, table: str) -> None:
    columns = connection.execute(SQL["analyzed_columns"], (f"{schema}.{table}",)).fetchall()
    named = sql.SQL(", ").join(Identifier(name) for (name,) in columns)
    connection.execute(sql.SQL(SQL["analyze_table"]).format(Identifier(schema, table), named))


def _swap(connection: Connection[TupleRow], view: View) -> None:
    """What is not live is nobody's to read: a table is secured, and given to who reads, as it becomes the live one."""
    for table in sorted(view.tables):  # queries lock tables in this order too: assets, then jobs
        connection.execute(sql.SQL(SQL["drop_table"]).format(Identifier("views_previous", table)))
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
    """Migrations know indexes by their names."""
    tables = f"views.{table}", f"views_previous.{table}"
    for named, name in connection.execute(SQL["index_names"], tables).fetchall():
        statement = sql.SQL(SQL["rename_index"])
        connection.execute(statement.format(Identifier("views", named), Identifier(name)))


def _checksum(connection: Connection[TupleRow], view: View, schema: str) -> tuple[int, str]:
    use_schema(connection, schema)
    return checksum(connection, view.tables)


def _position(connection: Connection[TupleRow], view: View, query: LiteralString) -> int:
    row = connection.execute(query, (view.name,)).fetchone()
    return 0 if row is None else cast("int", row[0])


@contextmanager
def _alone(connection: Connection[TupleRow], view: View) -> Iterator[None]:
    """One rebuild of a view at a time; a crashed one lets go with its connection."""
    row = connection.execute(SQL["try_lock"], (view.name,)).fetchone()
    if row is None or not row[0]:
        raise RebuildRunning(f"The view {view.name} is being rebuilt already; wait until that has ended.")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(SQL["unlock"], (view.name,))
