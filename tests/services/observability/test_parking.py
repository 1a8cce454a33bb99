"""An event that a view cannot take is parked with its stream, never skipped; other streams go on."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import orjson
import pytest
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.codec import of_kinds
from domain.commands import EditPrompt, RateAsset, SaveAsset, TagAsset
from domain.envelope import Recorded
from domain.events import AssetRated
from domain.recipes.recipe import asset_id
from projections import ALL
from projections.history import HISTORY
from projections.jobs import JOBS
from projections.library import LIBRARY
from projections.performance import PERFORMANCE
from projections.projection import Projection
from projections.prompts import PROMPTS
from projections.workspace import WORKSPACE
from services.database import Database
from services.ledger import EventMapper, Ledger, PostgresRecorder
from services.views.projector import Projector
from services.views.rebuild import matches_ledger, rebuild
from tests.histories import Story, Views, append_raw
from tests.services.commits import WAIT_S_MAX, eventually
from tests.spec import NOW, report_completed, report_failed, start


@dataclass
class Faulty:
    """A view that has a bug with some streams until it is fixed."""

    view: Projection
    cannot_take: set[UUID] = field(default_factory=set)

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
        if any(event.stream_id in self.cannot_take for event in events):
            raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("topic", "state", "reason"),
    [
        ("job.paused.v9", b'{"meta": {}, "data": {}}', "UnknownEvent: The ledger holds an event of type 'job.paused"),
        ("job.queued.v1", b'{"meta": {}, "da', "JSONDecodeError"),
        ("job.queued.v1", b'{"meta": {}, "data": {"owner": 7}}', "ValidationError"),
        ("job.canceled.v1", b'{"meta": {}, "data": {}}', "KeyError"),
    ],
)
def test_an_unreadable_event_is_parked_in_every_view_and_others_go_on(
    recorder: PostgresRecorder, story: Story, views: Views, topic: str, state: bytes, reason: str
) -> None:
    before = story.finished(1)
    stream = uuid4()
    position = append_raw(recorder, stream, 1, topic, state)
    after = story.finished(1)
    views.catch_up()
    parked = views.parked()
    assert [(view, stream_id, at) for view, stream_id, at, _ in parked] == [
        (view.name, stream, position)
        for view in sorted(ALL, key=lambda view: view.name)
        if of_kinds(topic, tuple(view.kinds))
    ]
    assert all(why.startswith(reason) for *_, why in parked)
    assert set(views.positions().values()) == {story.ledger.head()}
    assert {row["job_id"] for row in views.rows("jobs")} == {before, after}
    assert len(views.rows("history")) == story.ledger.head() - 1


def test_an_event_of_a_kind_that_a_view_does_not_take_holds_up_nothing_there(
    database: Database, recorder: PostgresRecorder, ledger: Ledger, story: Story, views: Views
) -> None:
    stream = asset_id(story.finished(1), 0)
    *_, last = ledger.stream(stream)
    assert isinstance(last, Recorded)
    append_raw(recorder, stream, last.version + 1, "asset.titled.v1", b'{"meta": {}, "da')
    rated = EventMapper().encode(stream, last.version + 2, AssetRated(score=4), last.envelope)
    append_raw(recorder, stream, rated.version, rated.topic, rated.state)
    views.catch_up()
    titles = {view.name for view in ALL if of_kinds("asset.titled", tuple(view.kinds))}
    assert {view for view, *_ in views.parked()} == titles >= {"history", "jobs", "workspace", "library"}
    assert {tuple(row["distribution"]) for row in views.rows("scores")} == {(0, 0, 0, 1, 0)}
    assert all(matches_ledger(database, ledger, view).same for view in ALL)


def test_later_events_of_a_parked_stream_are_parked_too(database: Database, ledger: Ledger, story: Story) -> None:
    bad, good = story.submit(1), story.submit(1)
    views = Views(database, ledger, Faulty(JOBS, {bad})).catch_up()
    for job_id in (bad, good):
        story.tell(job_id, start(1), report_completed(0))
    views.catch_up()
    assert [(stream, position) for _, stream, position, _ in views.parked()] == [(bad, 1), (bad, 5), (bad, 7)]
    reasons = [reason for *_, reason in views.parked()]
    assert reasons == ["RuntimeError: a bug", *["an earlier event of this stream is parked"] * 2]
    assert [row["status"] for row in views.rows("jobs")] == ["succeeded"]
    assert [row["status"] for row in views.rows("assets")] == ["completed"] * 2  # other streams of the same job go on


@pytest.mark.parametrize(
    "view", [view for view in ALL if view.name not in {"prompts", "fleet"}], ids=lambda view: view.name
)
def test_a_released_stream_goes_on_and_the_view_equals_a_rebuilt_one(
    database: Database, ledger: Ledger, story: Story, view: Projection
) -> None:
    bad = story.submit(3)
    faulty = Faulty(view, {bad})
    views = Views(database, ledger, faulty).catch_up()
    story.tell(bad, start(1), report_completed(0), report_failed(1), report_completed(2))
    story.curate(bad, 0, RateAsset(4, NOW), SaveAsset(NOW))
    story.finished(1)
    views.catch_up()
    assert (views.projector.release(), views.parked() == []) == (0, False)  # not fixed yet
    faulty.cannot_take.clear()
    released = views.projector.release()
    story.finished(1)
    views.catch_up()
    assert (released > 0, views.parked()) == (True, [])
    assert matches_ledger(database, ledger, view).same
    assert views.projector.release() == 0


def test_a_released_prompt_goes_on_and_the_view_equals_a_rebuilt_one(
    database: Database, ledger: Ledger, story: Story
) -> None:
    bad = story.save_prompt()
    faulty = Faulty(PROMPTS, {bad})
    views = Views(database, ledger, faulty).catch_up()
    story.change_prompt(bad, EditPrompt(NOW, title="Sea fog"))
    story.save_prompt()
    views.catch_up()
    assert [stream for _, stream, *_ in views.parked()] == [bad, bad]
    faulty.cannot_take.clear()
    assert (views.projector.release(), views.parked()) == (1, [])
    assert {row["title"] for row in views.rows("prompts")} == {"Sea fog", "Fog"}
    assert matches_ledger(database, ledger, PROMPTS).same


@pytest.mark.parametrize("view", [WORKSPACE, LIBRARY, PERFORMANCE], ids=lambda view: view.name)
def test_assets_of_a_parked_job_wait_with_it(
    database: Database, ledger: Ledger, story: Story, view: Projection
) -> None:
    bad = story.finished(1)
    views = Views(database, ledger, Faulty(view, {bad})).catch_up()
    assert {stream for _, stream, *_ in views.parked()} == {bad, asset_id(bad, 0)}


def test_two_projectors_that_start_together_release_each_stream_once(
    database: Database, ledger: Ledger, story: Story
) -> None:
    bad = story.submit(1)
    views = Views(database, ledger, Faulty(WORKSPACE, {bad})).catch_up()
    story.tell(bad, start(1), report_completed(0))
    views.catch_up()
    begun = threading.Event()

    class Slow(Faulty):
        """Holds its transaction open until somebody waits for it."""

        def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
            if not begun.is_set():
                begun.set()
                waiting = (
                    "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
                )
                eventually(lambda: views.ask(waiting))
            super().project(events, cursor)

    with ThreadPoolExecutor(max_workers=1) as thread:
        first = thread.submit(Projector(database, ledger, [Slow(WORKSPACE)]).release)
        assert begun.wait(WAIT_S_MAX)
        released = Projector(database, ledger, [WORKSPACE]).release()
        assert first.result(timeout=WAIT_S_MAX) + released == 2  # the job and its asset
    assert views.parked() == []
    assert matches_ledger(database, ledger, WORKSPACE).same


def test_a_rebuilt_view_brings_its_own_parked_events(database: Database, ledger: Ledger, story: Story) -> None:
    old, new = story.finished(1), story.finished(1)
    views = Views(database, ledger, Faulty(JOBS, {old})).catch_up()
    assert {stream for _, stream, *_ in views.parked()} == {old}
    rebuilt = rebuild(database, ledger, Faulty(JOBS, {new}))
    assert rebuilt.same is False
    assert {stream for _, stream, *_ in views.parked()} == {new}
    assert views.ask("select count(*) from parked_events where slot <> 'live'") == [(0,)]


def test_what_postgres_has_no_room_for_is_parked_and_not_taken_for_an_outage(
    database: Database, ledger: Ledger, recorder: PostgresRecorder, story: Story
) -> None:
    job_id = story.finished(1)
    views = Views(database, ledger, LIBRARY).catch_up()
    story.curate(job_id, 0, TagAsset(("fog",), NOW))
    tagged = ledger.read_raw(ledger.head() - 1, 1)[0]
    state = orjson.loads(tagged.state)
    # As before there were bounds: more than the library's search can hold of one row.
    state["data"]["tags"] = [f"{number:06}" for number in range(300_000)]
    append_raw(recorder, tagged.stream_id, tagged.version + 1, tagged.topic, orjson.dumps(state))
    other = story.finished(1)
    views.catch_up()
    ((_, stream, _, reason),) = views.parked()
    assert (stream, reason.startswith("ProgramLimitExceeded")) == (asset_id(job_id, 0), True)
    assert {row["job_id"] for row in views.rows("library")} == {job_id, other}


def test_history_of_a_readable_ledger_parks_nothing(database: Database, ledger: Ledger, story: Story) -> None:
    for quantity in (1, 3, 6):
        story.finished(quantity)
    views = Views(database, ledger, HISTORY).catch_up()
    assert views.parked() == []
    assert len(views.rows("history")) == ledger.head()
