"""Behind a pooler everything is as it is without one, or refused by name: tried with PgBouncer and few connections."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from projections import ALL
from services.database import Database, connect
from services.ledger import JOB, Context, Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.ledger.verification import verify_chain
from services.views.owned_views import ROLE, OwnedViews, why_unfit
from services.views.projector import Projector
from services.views.rebuild import RebuildRunning, matches_ledger, rebuild
from tests.histories import Story, Views
from tests.pgbouncer import needs_pgbouncer, pooled
from tests.spec import CANCEL, NOW

pytestmark = needs_pgbouncer

OWNERS = ("ada", "bob", "carl")


@pytest.fixture
def pooler(dsn: str) -> Iterator[str]:
    """In transaction mode, as most are run; it takes no options, as managed ones do not."""
    with pooled(dsn) as there:
        yield there


def owners_seen(views: OwnedViews, owner: str) -> set[str]:
    with views.of(owner) as connection:
        return {name for (name,) in connection.execute("select owner from views.jobs", prepare=True)}


def test_a_pooler_is_known_by_its_greeting_and_nothing_is_prepared_behind_it(dsn: str, pooler: str) -> None:
    with connect(dsn) as direct, connect(pooler) as shared:
        assert direct.prepare_threshold is not None
        assert shared.prepare_threshold is None
        for connection in (direct, shared):
            for _ in range(10):
                connection.execute("select %s::int", (1,), prepare=True)
        prepared = "select count(*) from pg_prepared_statements"
        assert direct.execute(prepared).fetchone() == (1,)
        assert shared.execute(prepared).fetchone() == (0,)


@pytest.mark.parametrize("ignored", ["", "options"])
def test_each_owner_reads_their_own_rows_and_all_of_them_however_connections_are_shared(
    dsn: str, story: Story, views: Views, ignored: str
) -> None:
    for owner in OWNERS:
        story.submit(1, owner=owner)
    views.catch_up()
    with pooled(dsn, size=2, ignored=ignored) as there, OwnedViews(there) as owned, ThreadPoolExecutor(8) as readers:
        asked = [OWNERS[number % 3] for number in range(300)]
        found = list(readers.map(lambda owner: owners_seen(owned, owner), asked))
        assert found == [{owner} for owner in asked]
        assert owners_seen(owned, "nobody") == set()


def test_options_that_are_dropped_widen_nothing(dsn: str, story: Story, views: Views) -> None:
    story.submit(1, owner="ada")
    views.catch_up()
    with pooled(dsn, ignored="options") as there, OwnedViews(there) as owned, owned.of("bob") as connection:
        assert connection.execute("select current_user::text").fetchone() == (ROLE,)
        assert connection.execute("select from views.jobs").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from ledger")


def test_nothing_of_an_owner_stays_on_a_connection(dsn: str, pooler: str) -> None:
    with OwnedViews(pooler) as owned:
        for owner in OWNERS:
            with owned.of(owner):
                pass
        with pytest.raises(ZeroDivisionError), owned.of("ada"):
            raise ZeroDivisionError
        with pytest.raises(psycopg.errors.UndefinedTable), owned.of("ada") as connection:
            connection.execute("select from nothing")
    with connect(pooler) as shared:
        left = "select current_user::text, current_setting('darkroom.owner', true), current_setting('enable_seqscan')"
        assert shared.execute(left).fetchone() in {("postgres", "", "on"), ("postgres", None, "on")}


def test_the_ledger_its_views_and_a_rebuild_work_behind_a_pooler(dsn: str, pooler: str) -> None:
    with ExitStack() as undo:
        database = undo.enter_context(Database(pooler))
        flusher = undo.enter_context(Flusher(pooler))
        ledger = undo.enter_context(Ledger(PostgresRecorder(database, flusher)))
        story = Story(ledger, lambda: NOW)
        with ThreadPoolExecutor(8) as writers:
            jobs = list(writers.map(lambda number: story.submit(1, owner=OWNERS[number % 3]), range(60)))
        ledger.execute(JOB, jobs[0], CANCEL, Context("ada"))
        projector = Projector(database, ledger, ALL)
        while projector.step():
            pass
        verified = verify_chain(database)
        assert (verified.misfit, verified.events) == (None, ledger.head())
        for view in ALL:
            assert rebuild(database, ledger, view).same
            assert matches_ledger(database, ledger, view).same
        with OwnedViews(pooler) as owned, owned.of("ada") as connection:
            assert connection.execute("select count(*) from views.jobs").fetchone() == (20,)


def test_of_two_rebuilds_behind_a_pooler_one_is_refused(
    dsn: str, pooler: str, ledger: Ledger, story: Story, views: Views
) -> None:
    story.submit(1)
    views.catch_up()
    entered, leave = threading.Event(), threading.Event()

    def stopping() -> bool:
        entered.set()
        leave.wait(60)
        return False

    with Database(pooler) as one, Database(pooler) as other, ThreadPoolExecutor(1) as thread:
        first = thread.submit(rebuild, one, ledger, ALL[0], stopping)
        assert entered.wait(60)
        try:
            with pytest.raises(RebuildRunning):
                rebuild(other, ledger, ALL[0])
        finally:
            leave.set()
        assert first.result(60).same
        assert rebuild(other, ledger, ALL[0]).same  # the lock was let go


def test_a_pooler_that_keeps_no_transaction_is_refused_by_name(dsn: str) -> None:
    with pooled(dsn, "statement") as there:
        assert "a pooler in statement mode" in str(why_unfit(there, logs_in=False))
    with pooled(dsn, "session") as there:
        assert why_unfit(there, logs_in=False) is None
        assert why_unfit(make_conninfo(there, user=ROLE), logs_in=True) is None
