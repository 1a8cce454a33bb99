"""Each view from position 0, caught up and rebuilt; the peer is the library's runner with the same rows."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
from eventsourcing.projection import ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg import sql

from benchmarks import batches, prompts
from benchmarks.contest import Contest, Row, Target
from benchmarks.histories import JOB_WAVES, fill
from benchmarks.library_app import Jobs, environment, fill_library, job_wave, library_app
from benchmarks.library_projection import Course, TrackedRows, projection_of
from benchmarks.library_views import WRITERS
from benchmarks.recorders import our_recorder
from benchmarks.stage import Stage
from projections import ALL
from projections.projection import Projection
from services.database import Database
from services.ledger import Ledger
from services.views.projector import Projector
from services.views.rebuild import rebuild

PEER = "eventsourcing ProjectionRunner"
PEER_S_MAX = 300.0

PEERS = WRITERS | {"batches": batches.WRITERS, "prompts": prompts.WRITERS}
HISTORIES = {
    "batches": (batches.WAVES, batches.LIBRARY_WAVE),
    "prompts": (prompts.WAVES, prompts.LIBRARY_WAVE),
}
"""Of the views that jobs alone tell nothing."""

ViewRows = dict[str, list[tuple[object, ...]]]

OF_EACH_SIDE = ("type", "data", "causation_id")
"""Columns of `history` that show an event as its side writes it."""

COMPARED = """
select column_name from information_schema.columns
where table_schema = 'views' and table_name = %s and column_name <> all (%s) and is_generated = 'NEVER'
  and data_type <> 'timestamp with time zone'
order by ordinal_position
"""


def contest(view: Projection, *, rebuilds: bool) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """The projector from position 0, or a rebuild next to a live view that is up to date."""

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        ours, peers = (4_800, 1_200) if stage.quick else (24_000, 2_400)
        with (
            stage.database(migrated=True) as dsn,
            stage.database(migrated=True) as peer_dsn,
            our_recorder(dsn) as recorder,
            Ledger(recorder) as ledger,
            Database(dsn) as database,
        ):
            waves, library_wave = HISTORIES.get(view.name, (JOB_WAVES, job_wave))
            with library_app(peer_dsn) as app:
                peer_last = fill_library(app, peers, waves, library_wave)
            _settle(peer_dsn)
            begun = fill(recorder, peers, waves=waves)
            _catch_up(database, ledger, view, begun)
            expected = rows_of(dsn, view)
            last = fill(recorder, ours, after=begun, waves=waves)
            _settle(dsn)
            measure = _rebuild if rebuilds else _catch_up
            if rebuilds:
                _catch_up(database, ledger, view, last)
            yield Contest(
                ours=lambda: measure(database, ledger, view, last),
                peer=lambda: _run_library(peer_dsn, view, peer_last, expected),
            )

    return prepare


def _catch_up(database: Database, ledger: Ledger, view: Projection, last: int) -> float:
    with database.connection() as connection:
        _empty(connection, view)
        connection.execute("delete from view_progress")
    projector = Projector(database, ledger, [view])
    began = time.perf_counter()
    while projector.step():
        pass
    took = time.perf_counter() - began
    with database.connection() as connection:
        reached = connection.execute("select position from view_progress").fetchone()
        parked = connection.execute("select count(*) from parked_events").fetchone()
    if reached != (last,) or parked != (0,):
        raise RuntimeError(f"The view {view.name} did not take the whole ledger.")
    return last / took


def _rebuild(database: Database, ledger: Ledger, view: Projection, last: int) -> float:
    rebuilt = rebuild(database, ledger, view)
    if not rebuilt.same or rebuilt.position != last:
        raise RuntimeError(f"The rebuilt view {view.name} differs from the live one.")
    return rebuilt.events_per_s


def _run_library(dsn: str, view: Projection, last: int, expected: ViewRows) -> float:
    """From its first event on: that the runner has to start and connect is not counted."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        _empty(connection, view)
        for (table,) in connection.execute(
            "select tablename from pg_tables where tablename like '%tracking'"
        ).fetchall():
            forget = sql.SQL("delete from {} where application_name = 'Jobs'")
            connection.execute(forget.format(sql.Identifier(table)))
        topics = [get_topic(kind) for kind in PEERS[view.name]]
        row = connection.execute("select max(notification_id) from jobs_events where topic = any(%s)", (topics,))
        ((last_wanted,),) = row.fetchall()
    course = Course(last_wanted)
    with ProjectionRunner(
        application_class=Jobs,
        projection_class=projection_of(view.name, PEERS[view.name], course),
        view_class=TrackedRows,
        env=environment(dsn),
    ) as runner:
        course.ended.wait(PEER_S_MAX)
        runner.wait(last_wanted)  # it is there, or it says what went wrong
    if rows_of(dsn, view) != expected:
        raise RuntimeError(f"The library's rows of the view {view.name} are not ours.")
    return last / (course.ended_s - course.began_s)


def rows_of(dsn: str, view: Projection) -> ViewRows:
    """Of each table, in the order of its first columns. Not what the two sides' own clocks and formats decide."""
    found: ViewRows = {}
    with psycopg.connect(dsn) as connection:
        for table in view.tables:
            columns = connection.execute(COMPARED, (table, list(OF_EACH_SIDE))).fetchall()
            names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
            query = sql.SQL("select {} from {} order by {}").format(names, sql.Identifier("views", table), names)
            found[table] = connection.execute(query).fetchall()
    return found


def _empty(connection: psycopg.Connection, view: Projection) -> None:
    for table in view.tables:
        connection.execute(sql.SQL("truncate {}").format(sql.Identifier("views", table)))


def _settle(dsn: str) -> None:
    """What a running server does by itself within a minute."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("vacuum analyze")


ROWS = [
    Row(f"{word}-{view.name}", "events/s", PEER, Target("ratio", "≥", 15), contest(view, rebuilds=rebuilds))
    for word, rebuilds in (("catch-up", False), ("rebuild", True))
    for view in ALL
]
