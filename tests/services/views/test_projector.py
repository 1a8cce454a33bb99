"""Exactly-once effect in the views: the checkpoint moves with the rows, by whichever projector."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.envelope import Recorded
from projections import ALL
from projections.history import HISTORY
from projections.projection import Projection
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.views import projector
from services.views.projector import Projector
from services.views.rebuild import matches_ledger
from tests.histories import Story, Views
from tests.services.beside import running, until
from tests.services.commits import WAIT_S_MAX


@dataclass
class Dying:
    """A view whose transaction is killed by the server after its rows were written, so many times."""

    view: Projection
    database: Database
    deaths: int = 1

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
        self.view.project(events, cursor)
        if self.deaths:
            self.deaths -= 1
            with self.database.connection() as other:
                other.execute("select pg_terminate_backend(%s, 10000)", (cursor.connection.info.backend_pid,))


def test_a_checkpoint_moves_with_its_rows_or_not_at_all(database: Database, ledger: Ledger, story: Story) -> None:
    story.finished(3)
    views = Views(database, ledger, Dying(HISTORY, database))
    with pytest.raises(Unavailable):
        views.projector.step()
    assert (views.positions(), views.rows("history"), views.parked()) == ({"history": 0}, [], [])
    views.catch_up()
    assert views.positions() == {"history": ledger.head()}
    assert [row["position"] for row in views.rows("history")] == list(range(1, ledger.head() + 1))


def test_of_several_projectors_each_event_is_taken_once(
    database: Database, ledger: Ledger, story: Story, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH_EVENTS_MAX", 5)
    for _ in range(8):
        story.finished(3)
    head = ledger.head()

    def project_to_the_end() -> None:
        mine = Projector(database, ledger, ALL)
        while min(views.positions().values(), default=0) < head:
            mine.step()

    with ThreadPoolExecutor(max_workers=3) as threads:
        for done in [threads.submit(project_to_the_end) for _ in range(3)]:
            done.result(timeout=WAIT_S_MAX)
    assert [row["position"] for row in sorted(views.rows("history"), key=lambda row: row["position"])] == list(
        range(1, head + 1)
    )
    assert all(matches_ledger(database, ledger, view).same for view in ALL)


def test_views_at_different_positions_go_on_from_where_each_is(
    database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    story.finished(1)
    Views(database, ledger, HISTORY).catch_up()  # alone, as when the others did not exist yet
    story.finished(1)
    views.catch_up()
    assert set(views.positions().values()) == {ledger.head()}
    assert all(matches_ledger(database, ledger, view).same for view in ALL)


def test_no_position_is_missing_from_history_whatever_the_batches(
    ledger: Ledger, story: Story, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in itertools.islice(itertools.cycle([1, 3, 7]), 9):
        story.finished(1)
        monkeypatch.setattr(projector, "BATCH_EVENTS_MAX", size)
        views.projector.step()
    views.catch_up()
    positions = views.ask("select position from views.history order by position")
    assert positions == [(position,) for position in range(1, ledger.head() + 1)]


async def test_a_running_projector_follows_the_ledger_until_it_is_stopped(
    ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    async with running(lambda stop: views.projector.run(broker, stop)):
        story.finished(1)
        await until(lambda: set(views.positions().values()) == {ledger.head()})
        story.finished(1)
        await until(lambda: set(views.positions().values()) == {ledger.head()})
    assert len(views.rows("jobs")) == 2


async def test_a_running_projector_waits_an_outage_of_postgres_out(
    database: Database, ledger: Ledger, story: Story, broker: Broker
) -> None:
    story.finished(1)
    views = Views(database, ledger, Dying(HISTORY, database, deaths=2))
    async with running(lambda stop: views.projector.run(broker, stop)):
        await until(lambda: views.positions() == {"history": ledger.head()})
    assert len(views.rows("history")) == ledger.head()
