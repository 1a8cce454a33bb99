"""Views are disposable: built again next to the live ones while everything goes on, or as they were at a position."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.aggregates.fleet import pool_stream
from domain.commands import DismissAsset, EditPrompt, Pause, RateAsset, ThumbnailAsset, TitleAsset, TrashAsset
from domain.envelope import Recorded
from projections import ALL
from projections.projection import Projection
from services.database import Database, Unavailable
from services.ledger import POOL, Context, Ledger
from services.views import projector, rebuild
from services.views.rebuild import PositionUnknown, RebuildRunning, matches_ledger, rebuild_as_of
from tests.histories import Row, Story, Views
from tests.services.commits import WAIT_S_MAX, eventually
from tests.spec import NOW, TRANSIENT, report_completed, report_failed, start, thumbnail_of

BY_NAME = {view.name: view for view in ALL}
VIEW = pytest.mark.parametrize("view", ALL, ids=list(BY_NAME))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small history takes many batches, as a large one does."""
    monkeypatch.setattr(projector, "BATCH_EVENTS_MAX", 40)
    monkeypatch.setattr(rebuild, "BATCH_EVENTS_MAX", 40)
    monkeypatch.setattr(rebuild, "NEARLY_THERE_EVENTS", 80)


@dataclass
class Held:
    """A view whose projection waits, once begun, until it is let go; the live one is not affected."""

    view: Projection
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    backend_pid: int = 0

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def tables(self) -> Sequence[str]:
        return self.view.tables

    @property
    def kinds(self) -> Sequence[str]:
        return self.view.kinds

    @property
    def version(self) -> int:
        return self.view.version

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        self.backend_pid = cursor.connection.info.backend_pid
        self.begun.set()
        assert self.go_on.wait(WAIT_S_MAX)
        self.view.project(events, cursor)


def everything(story: Story) -> None:
    """A little of all that can happen."""
    job_id = story.submit(3)
    story.tell(job_id, start(1), report_completed(0), report_failed(1, error=TRANSIENT), report_completed(2))
    story.curate(job_id, 0, RateAsset(4, NOW), TitleAsset("Fog", NOW), DismissAsset(NOW))
    story.curate(job_id, 0, ThumbnailAsset(thumbnail_of(0), NOW))
    story.curate(job_id, 2, TrashAsset(NOW), ThumbnailAsset(thumbnail_of(2), NOW))
    story.submit(1)
    batch_id, (one, other) = story.compared("sdxl-demo", "flux")
    story.prefer(batch_id, one, other)
    story.change_prompt(story.save_prompt(), EditPrompt(NOW, title="Sea fog"))
    story.ledger.execute(POOL, pool_stream("sdxl"), Pause("sdxl", NOW), Context("admin"))


@contextmanager
def again_and_again(*actions: Callable[[], object]) -> Iterator[None]:
    """Each action in a thread of its own while the block runs; what one raises is raised here."""
    stop = threading.Event()

    def repeat(action: Callable[[], object]) -> None:
        while not stop.is_set():
            action()

    with ThreadPoolExecutor(max_workers=len(actions)) as threads:
        running: list[Future[None]] = [threads.submit(repeat, action) for action in actions]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result(timeout=WAIT_S_MAX)


# Next to the live view, while everything goes on.


def test_every_view_is_rebuilt_while_jobs_flow_and_people_read(
    database: Database, ledger: Ledger, story: Story, views: Views, small_batches: None
) -> None:
    for _ in range(15):
        everything(story)
    views.catch_up()
    reads = 0

    def read() -> None:
        nonlocal reads
        for view in ALL:
            for table in view.tables:
                assert views.ask(f"select count(*) from views.{table}") > [(0,)], f"{table} is empty"
        reads += 1

    with again_and_again(lambda: story.finished(1), views.projector.step, read):
        before = ledger.head()
        for view in ALL:
            assert rebuild.rebuild(database, ledger, view).same
        eventually(lambda: ledger.head() > before)
    assert reads
    views.catch_up()
    for view in ALL:
        checked = matches_ledger(database, ledger, view)
        assert (checked.same, checked.position) == (True, ledger.head())
    assert views.ask("select * from view_progress where slot <> 'live'") == []


def test_a_query_that_joins_the_tables_of_a_view_is_not_deadlocked_by_the_swap(
    database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    everything(story)
    views.catch_up()
    with ThreadPoolExecutor(max_workers=1) as thread, psycopg.connect(database.dsn) as reader:
        reader.execute("select count(*) from views.assets")  # as the join of both does first
        swap = thread.submit(rebuild.rebuild, database, ledger, BY_NAME["jobs"])
        waits = "select 1 from pg_locks where not granted and mode = 'AccessExclusiveLock' and relation is not null"
        eventually(lambda: views.ask(waits))
        assert reader.execute("select count(*) from views.jobs").fetchone() == (4,)
        reader.commit()
        assert swap.result(timeout=WAIT_S_MAX).same


def test_what_was_replaced_is_kept_for_a_rollback(
    database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    everything(story)
    right = views.catch_up().rows("jobs")
    views.ask("update views.jobs set priority = 7")
    wrong = views.rows("jobs")
    assert rebuild.rebuild(database, ledger, BY_NAME["jobs"]).same is False
    assert (views.rows("jobs"), views.rows("jobs", schema="views_previous")) == (right, wrong)
    assert rebuild.rebuild(database, ledger, BY_NAME["jobs"]).same
    assert views.rows("jobs", schema="views_previous") == right


@VIEW
def test_a_rebuilt_table_has_the_indexes_that_migrations_know(
    database: Database, ledger: Ledger, view: Projection, views: Views
) -> None:
    asked = "select tablename, indexname, indexdef from pg_indexes where schemaname = 'views' and tablename = any(%s)"
    before = sorted(views.ask(asked, list(view.tables)))
    assert before
    for _ in range(2):
        rebuild.rebuild(database, ledger, view)
        assert sorted(views.ask(asked, list(view.tables))) == before


@VIEW
def test_a_view_is_built_where_there_was_none(
    database: Database, ledger: Ledger, story: Story, views: Views, view: Projection
) -> None:
    assert rebuild.rebuild(database, ledger, view).position == 0
    everything(story)
    views.catch_up()
    assert matches_ledger(database, ledger, view).same


# Only one at a time, and none after a crash.


def test_a_second_rebuild_of_a_view_is_refused(database: Database, ledger: Ledger, story: Story, views: Views) -> None:
    everything(story)
    views.catch_up()
    held = Held(BY_NAME["library"])
    with ThreadPoolExecutor(max_workers=1) as thread:
        first = thread.submit(rebuild.rebuild, database, ledger, held)
        try:
            assert held.begun.wait(WAIT_S_MAX)
            with pytest.raises(RebuildRunning, match="library is being rebuilt already"):
                rebuild.rebuild(database, ledger, BY_NAME["library"])
            with pytest.raises(RebuildRunning):
                rebuild_as_of(database, ledger, BY_NAME["library"], 1)
            assert rebuild.rebuild(database, ledger, BY_NAME["queue"]).same  # another view
        finally:
            held.go_on.set()
        assert first.result(timeout=WAIT_S_MAX).same
    assert rebuild.rebuild(database, ledger, BY_NAME["library"]).same


def test_after_a_crash_in_the_middle_the_live_view_goes_on_and_a_new_rebuild_works(
    database: Database, ledger: Ledger, story: Story, views: Views, small_batches: None
) -> None:
    for _ in range(8):  # enough for batches next to the live view, before the swap
        everything(story)
    live = views.catch_up().rows("library")
    held = Held(BY_NAME["library"])
    with ThreadPoolExecutor(max_workers=1) as thread:
        crashing = thread.submit(rebuild.rebuild, database, ledger, held)
        assert held.begun.wait(WAIT_S_MAX)
        views.ask("select pg_terminate_backend(%s)", held.backend_pid)
        held.go_on.set()
        with pytest.raises(Unavailable):
            crashing.result(timeout=WAIT_S_MAX)
    assert views.rows("library") == live
    everything(story)
    views.catch_up()
    assert rebuild.rebuild(database, ledger, BY_NAME["library"]).same


# Time travel.


@VIEW
def test_a_view_as_of_a_position_is_the_live_view_of_that_moment(
    database: Database, ledger: Ledger, story: Story, views: Views, view: Projection
) -> None:
    moments: dict[int, dict[str, list[Row]]] = {0: {table: [] for table in view.tables}}
    for tell in (everything, lambda told: told.finished(6), everything):
        tell(story)
        views.catch_up()
        moments[ledger.head()] = {table: views.rows(table) for table in view.tables}
    for position, then in moments.items():
        rebuilt = rebuild_as_of(database, ledger, view, position)
        assert {table: views.rows(table, schema="views_as_of") for table in view.tables} == then
        assert (rebuilt.position, rebuilt.rows) == (position, sum(map(len, then.values())))
    assert {table: views.rows(table) for table in view.tables} == moments[ledger.head()]


@pytest.mark.parametrize("beyond", [-1, 3])
def test_a_position_that_the_ledger_does_not_have_is_refused(
    database: Database, ledger: Ledger, story: Story, beyond: int
) -> None:
    story.submit(1)
    with pytest.raises(PositionUnknown, match=f"positions 1 to 2; there is no position {beyond}"):
        rebuild_as_of(database, ledger, ALL[0], beyond)


# Comparing.


@VIEW
def test_a_view_that_was_changed_by_hand_does_not_match_the_ledger(
    database: Database, ledger: Ledger, story: Story, views: Views, view: Projection
) -> None:
    everything(story)
    views.catch_up()
    assert matches_ledger(database, ledger, view).same is True
    views.ask(f"update views.{view.tables[-1]} set owner = 'mallory' where owner in ('ada', 'admin')")
    assert matches_ledger(database, ledger, view).same is False
    rebuild.rebuild(database, ledger, view)
    assert matches_ledger(database, ledger, view).same is True


@VIEW
def test_postgres_knows_a_rebuilt_view_before_anybody_reads_it(
    small_batches: None, story: Story, views: Views, ledger: Ledger, view: Projection
) -> None:
    while ledger.head() < 200:
        everything(story)
    views.catch_up()
    assert rebuild.rebuild(views.database, ledger, view).same
    known = {table for (table,) in views.ask("select distinct tablename from pg_stats where schemaname = 'views'")}
    assert set(view.tables) <= known
