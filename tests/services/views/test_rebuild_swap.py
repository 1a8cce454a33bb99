"""A rebuild's swap holds up no reader, whoever reads the view meanwhile and however large it is."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from projections import ALL
from services.database import Database
from services.ledger import Ledger
from services.observability import progress
from services.views import rebuild as rebuilds
from services.views.rebuild import RebuildRunning, RebuildStopped, Rebuilt, rebuild
from tests.histories import Story, Views
from tests.services.commits import eventually

JOBS = next(view for view in ALL if view.name == "jobs")
READ_S_MAX = 1.0


@contextmanager
def rebuilding(database: Database, ledger: Ledger, stop: threading.Event) -> Iterator["Future[Rebuilt]"]:
    """A rebuild of `jobs` next to the block; it is stopped at the end if it still runs."""
    with ThreadPoolExecutor(1) as thread:
        rebuilt = thread.submit(rebuild, database, ledger, JOBS, stop.is_set)
        try:
            yield rebuilt
        finally:
            stop.set()


def swap_waits() -> bool:
    """Whether a swap has tried at least once and failed."""
    return any(one.waiting and one.waiting.code == "swap_waits" for one in progress.here())


def slowest_read_s(dsn: str, reads: int) -> float:
    """Of so many reads of the view, each in a transaction of its own."""
    slowest = 0.0
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(reads):
            began = time.monotonic()
            connection.execute("select count(*) from views.jobs")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.005)
    return slowest


def test_readers_go_on_while_the_swap_waits_for_one_that_stays(
    dsn: str, database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    """As `pg_dump` does: it holds its tables until it ends."""
    story.finished(2)
    views.catch_up()
    with psycopg.connect(dsn) as dumping:
        dumping.execute("select from views.jobs")
        with rebuilding(database, ledger, threading.Event()) as rebuilt:
            eventually(swap_waits)
            assert slowest_read_s(dsn, 200) < READ_S_MAX
            assert not rebuilt.done()
            story.finished(1)  # work goes on, and the swap takes it along
            views.catch_up()
            dumping.rollback()
            done = rebuilt.result(timeout=60)
    assert done.same
    assert views.ask("select count(*) from views.jobs") == [(2,)]
    assert not swap_waits()


def test_a_rebuild_that_learns_to_stop_while_it_waits_leaves_the_view_as_it_was(
    dsn: str, database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    story.finished(1)
    views.catch_up()
    before = views.ask("select 'views.jobs'::regclass::oid")
    stop = threading.Event()
    with psycopg.connect(dsn) as dumping:
        dumping.execute("select from views.jobs")
        with rebuilding(database, ledger, stop) as rebuilt:
            eventually(swap_waits)
            stop.set()
            with pytest.raises(RebuildStopped):
                rebuilt.result(timeout=60)
    assert views.ask("select 'views.jobs'::regclass::oid") == before
    assert rebuild(database, ledger, JOBS).same
    assert views.ask("select 'views.jobs'::regclass::oid") != before


def test_the_live_view_goes_on_while_checksums_are_computed(
    database: Database, ledger: Ledger, story: Story, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it is: each checksum waits here until the live view has moved."""
    story.finished(1)
    views.catch_up()
    computed = rebuilds.checksum
    moved = 0

    def slow(connection: Connection[TupleRow], tables: Iterable[str]) -> tuple[int, str]:
        nonlocal moved
        story.finished(1)
        views.catch_up()  # hangs for ever if the checkpoint is held
        moved += 1
        return computed(connection, tables)

    monkeypatch.setattr(rebuilds, "checksum", slow)
    rebuilt = rebuild(database, ledger, JOBS)
    assert moved == 2
    assert rebuilt.same
    assert views.ask("select count(*) from views.jobs") == [(3,)]


def test_a_view_that_differs_is_still_reported_apart(
    database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    story.finished(1)
    views.catch_up()
    views.ask("update views.jobs set priority = 7 returning 1")
    assert rebuild(database, ledger, JOBS).same is False
    assert views.ask("select priority from views.jobs") == [(0,)]


def test_the_second_of_two_rebuilds_is_refused_and_a_lost_lock_ends_the_first(
    dsn: str, database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    story.finished(1)
    views.catch_up()
    with psycopg.connect(dsn) as dumping:
        dumping.execute("select from views.jobs")
        with rebuilding(database, ledger, threading.Event()):
            eventually(swap_waits)
            with pytest.raises(RebuildRunning):
                rebuild(database, ledger, JOBS)
            dumping.rollback()
