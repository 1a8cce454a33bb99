"""The view `scores`: counts that grow event by event, and the formulas of one version over all of its rows."""

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from domain.commands import CancelJob, RateAsset, TrashAsset
from domain.policies import scoring
from domain.recipes.recipe import asset_id
from projections.jobs import JOBS
from projections.scores.view import SCORES, Scores
from services.database import Database
from services.ledger import Ledger
from services.views.owned_views import OwnedViews, logging_in_as_role
from services.views.projector import Projector
from services.views.rebuild import matches_ledger, rebuild, rebuild_outdated
from tests.afresh import scores_afresh, scores_shown
from tests.conftest import Clock
from tests.histories import Story, Views
from tests.services.beside import opened, running, until
from tests.services.commits import WAIT_S_MAX
from tests.spec import NOW, OWNER, start

Row = dict[str, Any]


@pytest.fixture(params=["command by command", "in one batch"])
def told(request: pytest.FixtureRequest, ledger: Ledger, clock: Clock, views: Views) -> Story:
    """Seen by the view at once, or only when somebody looks."""
    return Story(ledger, clock.tick, views.catch_up if request.param == "command by command" else lambda: None)


def score_of(views: Views, by: str, value: str, owner: str = OWNER) -> Row:
    """One row, after the views caught up."""
    (row,) = [
        row for row in views.catch_up().rows("scores") if (row["owner"], row["by"], row["value"]) == (owner, by, value)
    ]
    return row


def rate(story: Story, job_id: UUID, *scores: int, index: int = 0) -> None:
    """These ratings of one asset, one after the other."""
    story.curate(job_id, index, *(RateAsset(score, NOW) for score in scores))


# What is counted.


def test_a_job_counts_for_its_prompt_its_model_and_its_job_type(told: Story, views: Views) -> None:
    told.submit(3, prompt="fog")
    told.submit(1, prompt="fog", model="flux")
    told.submit(1, prompt="fog ")
    told.submit(1, prompt="fog", owner="bob")
    rows = views.catch_up().rows("scores")
    assert {(row["owner"], row["by"], row["value"]): row["jobs"] for row in rows} == {
        ("ada", "prompt", "fog"): 2,
        ("ada", "prompt", "fog "): 1,
        ("ada", "model", "sdxl-demo"): 2,
        ("ada", "model", "flux"): 1,
        ("ada", "job_type", "sdxl_image_fast"): 3,
        ("bob", "prompt", "fog"): 1,
        ("bob", "model", "sdxl-demo"): 1,
        ("bob", "job_type", "sdxl_image_fast"): 1,
    }
    assert {row["key"] for row in rows if row["value"] == "fog"} == {hashlib.sha256(b"fog").hexdigest()}
    assert {(row["rated"], row["mean"], row["score"], row["strength"]) for row in rows} == {(0, None, 3.0, None)}


def test_the_latest_rating_of_an_asset_counts(told: Story, views: Views) -> None:
    job_id = told.finished(3)
    rate(told, job_id, 1, 4, 5)
    rate(told, job_id, 2, index=1)
    for by, value in (("model", "sdxl-demo"), ("job_type", "sdxl_image_fast"), ("prompt", "a lighthouse in fog")):
        row = score_of(views, by, value)
        assert (row["rated"], row["distribution"], row["mean"]) == (2, [0, 1, 0, 0, 1], 3.5)
        assert row["score"] == round((5 * 3 + 7) / 7, 4)


def test_what_was_rated_counts_in_the_trash_too_and_a_canceled_job_is_a_use(told: Story, views: Views) -> None:
    job_id = told.finished(1)
    rate(told, job_id, 5)
    told.curate(job_id, 0, TrashAsset(NOW))
    told.tell(told.submit(1), start(1), CancelJob(NOW))
    row = score_of(views, "model", "sdxl-demo")
    assert (row["jobs"], row["distribution"]) == (2, [0, 0, 0, 0, 1])


def test_of_two_assets_the_later_preference_counts(told: Story, views: Views) -> None:
    batch_id, (demo, flux) = told.compared("sdxl-demo", "flux")
    told.prefer(batch_id, demo, flux)
    told.prefer(batch_id, demo, flux)
    assert [score_of(views, "model", name)["strength"] for name in ("sdxl-demo", "flux")] == [2.1304, 0.4694]
    told.prefer(batch_id, flux, demo)
    demo_row, flux_row = (score_of(views, "model", name) for name in ("sdxl-demo", "flux"))
    assert (demo_row["won"], demo_row["lost"], demo_row["strength"]) == (0, 1, 0.4694)
    assert (flux_row["won"], flux_row["lost"], flux_row["strength"]) == (1, 0, 2.1304)
    (wins,) = [row for row in views.rows("score_wins") if row["by"] == "model"]
    assert (wins["winner"], wins["loser"], wins["wins"]) == ("flux", "sdxl-demo", 1)


def test_what_was_compared_with_itself_tells_nothing(told: Story, views: Views) -> None:
    batch_id, (one, other) = told.compared("sdxl-demo", "sdxl-demo")
    told.prefer(batch_id, one, other)
    assert {(row["won"], row["lost"], row["strength"]) for row in views.catch_up().rows("scores")} == {(0, 0, None)}


def test_preferences_of_two_owners_have_nothing_to_do_with_each_other(told: Story, views: Views) -> None:
    for owner, turn in (("ada", 1), ("bob", -1)):
        batch_id, jobs = told.compared("sdxl-demo", "flux", owner=owner)
        told.prefer(batch_id, *jobs[::turn], owner=owner)
    assert score_of(views, "model", "flux", "ada")["strength"] == 0.4694
    assert score_of(views, "model", "flux", "bob")["strength"] == 2.1304


def test_a_preference_whose_job_is_not_here_is_parked_until_it_is(
    database: Database, ledger: Ledger, story: Story
) -> None:
    @dataclass
    class Blind(Scores):
        """Cannot take one job."""

        job_id: UUID
        mended: bool = field(default=False)

        def project(self, events: Any, cursor: Any) -> None:
            super().project(events, cursor)
            if not self.mended and any(event.stream_id == self.job_id for event in events):
                raise RuntimeError("a bug")

    batch_id, (demo, flux) = story.compared("sdxl-demo", "flux")
    rate(story, demo, 4)
    story.prefer(batch_id, demo, flux)
    view = Blind(demo)
    views = Views(database, ledger, view).catch_up()
    assert {stream for _, stream, *_ in views.parked()} == {demo, asset_id(demo, 0), batch_id}
    view.mended = True
    assert views.projector.release() == 3
    assert score_of(views, "model", "sdxl-demo")["won"] == 1
    assert matches_ledger(database, ledger, view).same


def test_each_owner_sees_his_own_rows_also_after_a_rebuild(
    database: Database, dsn: str, ledger: Ledger, story: Story, views: Views
) -> None:
    batch_id, jobs = story.compared("sdxl-demo", "flux")
    rate(story, jobs[0], 4)
    story.prefer(batch_id, *jobs)
    story.submit(1, owner="bob")
    views.catch_up()
    with OwnedViews(logging_in_as_role(dsn)) as owned:
        for _ in range(2):
            for table in SCORES.tables:
                rows = views.rows(table)
                for owner in (OWNER, "bob", "eve"):
                    with owned.of(owner) as connection:
                        seen = connection.execute(f"select owner from views.{table}".encode()).fetchall()
                    assert seen == [(row["owner"],) for row in rows if row["owner"] == owner]
            rebuild(database, ledger, SCORES)


# The formula.


def many_opinions(story: Story) -> None:
    """Ratings, ratings again, and preferences in a circle, in pieces and of the same."""
    jobs = [story.finished(3, prompt=f"fog {number % 3}", owner=("ada", "bob")[number % 2]) for number in range(6)]
    for number, job_id in enumerate(jobs[::2]):
        rate(story, job_id, 1 + number, 5 - number, index=number)
    batch_id, compared = story.compared("a", "b", "c", "d", "d", quantity=3)
    for index, (winner, loser) in enumerate([(0, 1), (1, 2), (2, 0), (3, 4), (0, 1), (1, 0), (2, 3)]):
        story.prefer(batch_id, compared[winner], compared[loser], index=index % 3)
    other, two = story.compared("x", "y", prompt="a ship")
    story.prefer(other, *two)
    mixed = [story.finished(1, prompt=f"part {number}", batch_id=other) for number in range(2)]
    story.prefer(other, *mixed)
    rate(story, two[1], 2)


@pytest.fixture
def another_formula(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the program is one of the next version, whose formulas weigh the prior more."""

    def change() -> None:
        monkeypatch.setattr(scoring, "FORMULA", 2)
        monkeypatch.setattr(scoring, "PRIOR_RATINGS", 50)
        monkeypatch.setattr(scoring, "PRIOR_GAMES", 8.0)

    return change


def test_every_row_is_as_computed_afresh(ledger: Ledger, told: Story, views: Views) -> None:
    many_opinions(told)
    views.catch_up()
    assert scores_shown(views) == scores_afresh(ledger)
    assert views.parked() == []


def test_a_new_formula_is_a_rebuild_and_gives_the_same_as_computing_afresh(
    database: Database, ledger: Ledger, story: Story, views: Views, another_formula: Callable[[], None]
) -> None:
    many_opinions(story)
    views.catch_up()
    old = scores_shown(views)
    assert {row["formula"] for row in old.values()} == {1}
    another_formula()
    many_opinions(story)
    views.catch_up()  # all other views; this one stays as it is
    assert scores_shown(views) == old
    assert views.positions()["scores"] < views.positions()["jobs"] == ledger.head()
    assert rebuild_outdated(database, ledger, [SCORES])
    assert views.ask("select version from view_progress where view = 'scores' and slot = 'live'") == [(2,)]
    assert scores_shown(views, "views_previous") == old
    many_opinions(story)
    views.catch_up()  # from where the rebuild ended
    new = scores_shown(views)
    assert {row["formula"] for row in new.values()} == {2}
    assert new == scores_afresh(ledger)
    assert any(new[key]["score"] != row["score"] for key, row in old.items())
    assert matches_ledger(database, ledger, SCORES).same


def test_what_is_up_to_date_is_not_rebuilt(database: Database, ledger: Ledger, story: Story, views: Views) -> None:
    assert rebuild_outdated(database, ledger, [SCORES])  # of a view that nobody registered yet
    story.finished(1)
    views.catch_up()
    views.ask("update views.scores set jobs = 7")
    assert rebuild_outdated(database, ledger, [SCORES])
    assert {row["jobs"] for row in views.rows("scores")} == {7}


async def test_a_projector_that_starts_rebuilds_what_another_version_made(
    database: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    another_formula: Callable[[], None],
    nats_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    many_opinions(story)
    views.catch_up()
    another_formula()
    many_opinions(story)
    caplog.set_level(logging.INFO, "services.views.rebuild")
    projector = Projector(
        database, ledger, [SCORES], lambda stopping: rebuild_outdated(database, ledger, [SCORES], stopping)
    )
    async with opened(nats_url) as broker, running(lambda stop: projector.run(broker, stop)):
        await until(lambda: views.positions()["scores"] == ledger.head())
    assert scores_shown(views) == scores_afresh(ledger)
    assert "the view scores went from version 1 to 2" in caplog.text


async def test_of_two_projectors_that_start_together_one_rebuilds_and_the_other_waits(
    database: Database, ledger: Ledger, story: Story, views: Views, another_formula: Callable[[], None], nats_url: str
) -> None:
    story.finished(1)
    views.catch_up()
    another_formula()
    begun, go_on = threading.Event(), threading.Event()

    class Held(Scores):
        """Waits in its rebuild until it is let go."""

        def project(self, events: Any, cursor: Any) -> None:
            begun.set()
            assert go_on.wait(WAIT_S_MAX)
            super().project(events, cursor)

    rebuilding = threading.Thread(target=rebuild, args=(database, ledger, Held()))
    rebuilding.start()
    assert begun.wait(WAIT_S_MAX)
    asked: list[bool] = []

    def ask(stopping: Callable[[], bool]) -> bool:
        asked.append(rebuild_outdated(database, ledger, [SCORES], stopping))
        return asked[-1]

    projector = Projector(database, ledger, [SCORES], ask)
    async with opened(nats_url) as broker, running(lambda stop: projector.run(broker, stop)):
        await until(lambda: len(asked) > 1)
        assert {row["formula"] for row in views.rows("scores")} == {1}
        go_on.set()
        await until(lambda: asked[-1])
    rebuilding.join(WAIT_S_MAX)
    assert asked[:-1] == [False] * (len(asked) - 1)
    assert {row["formula"] for row in views.rows("scores")} == {2}


async def test_other_views_go_on_while_one_is_rebuilt(
    database: Database, ledger: Ledger, story: Story, views: Views, another_formula: Callable[[], None], nats_url: str
) -> None:
    story.finished(1)
    views.catch_up()
    another_formula()
    story.finished(1)
    go_on = threading.Event()

    def rebuild_in_a_while(stopping: Callable[[], bool]) -> bool:
        assert go_on.wait(WAIT_S_MAX)
        return rebuild_outdated(database, ledger, [SCORES], stopping)

    projector = Projector(database, ledger, [JOBS, SCORES], rebuild_in_a_while)
    async with opened(nats_url) as broker, running(lambda stop: projector.run(broker, stop)):
        await until(lambda: views.positions()["jobs"] == ledger.head())
        assert views.positions()["scores"] < ledger.head()
        go_on.set()
        await until(lambda: views.positions()["scores"] == ledger.head())


def test_a_rebuild_stops_with_its_program(
    database: Database, ledger: Ledger, story: Story, views: Views, another_formula: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    many_opinions(story)
    views.catch_up()
    old = scores_shown(views)
    another_formula()
    monkeypatch.setattr("services.views.rebuild.NEARLY_THERE_EVENTS", 0)
    stopping = iter([False, True])  # after it has begun
    assert not rebuild_outdated(database, ledger, [SCORES], lambda: next(stopping))
    assert not rebuild_outdated(database, ledger, [SCORES], lambda: True)
    assert scores_shown(views) == old
    assert rebuild_outdated(database, ledger, [SCORES])
    assert scores_shown(views) == scores_afresh(ledger)


def test_an_older_program_leaves_the_rows_of_a_newer_one_alone(
    database: Database, ledger: Ledger, story: Story, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.finished(1)
    views.catch_up()
    with monkeypatch.context() as newer:
        newer.setattr(scoring, "FORMULA", 2)
        assert rebuild_outdated(database, ledger, [SCORES])
    story.finished(1)
    views.catch_up()
    assert {(row["formula"], row["jobs"]) for row in views.rows("scores")} == {(2, 1)}
    assert views.projector.release() == 0
