"""The view of batches: where each item stands, by its last job alone, and what jobs of others leave untouched."""

from uuid import UUID

import pytest

from domain.commands import PreferAsset, RenameBatch
from domain.recipes.recipe import asset_id
from projections.batches import BATCHES
from services.database import Database
from services.ledger import Ledger
from tests.conftest import Clock
from tests.histories import REJECTED, Story, Views
from tests.spec import CANCEL, NOW, OWNER, abort, release, report_completed, report_failed, start


def counts(views: Views, batch_id: UUID) -> dict[str, int]:
    """How many items of a batch stand where."""
    ((found,),) = views.catch_up().ask("select counts from views.batches where batch_id = %s", batch_id)
    return dict(found)


def test_items_stand_where_their_jobs_are(story: Story, views: Views, clock: Clock) -> None:
    batch_id, (a, b, c, d, e, f, g) = story.open_batch(1, 1, 1, 2, 1, 1, 1, 0)
    late, (h,) = story.open_batch(1, deadline=clock.now)
    assert counts(views, batch_id) == {"queued": 7, "rejected": 1}
    story.tell(a, start(1))
    story.tell(b, start(1), release(1))
    story.tell(c, start(1), report_completed(0))
    story.tell(d, start(1), report_completed(0), report_failed(1))
    story.tell(e, start(1), report_failed(0))
    story.tell(f, CANCEL)
    story.tell(g, start(1), CANCEL)
    story.tell(h, abort())
    assert counts(views, batch_id) == {
        "processing": 2,
        "queued": 1,
        "succeeded": 1,
        "partially_succeeded": 1,
        "failed": 1,
        "canceled": 1,
        "rejected": 1,
    }
    assert counts(views, late) == {"aborted": 1}
    (rejected,) = [row for row in views.rows("batch_items") if row["status"] == "rejected"]
    assert (rejected["problem"], rejected["owner"]) == (REJECTED.model_dump(mode="json"), OWNER)


def test_the_last_job_alone_counts(story: Story, views: Views) -> None:
    batch_id, (job,) = story.open_batch(1)
    story.tell(job, start(1), report_failed(0))
    assert counts(views, batch_id) == {"failed": 1}
    again = story.run_again(batch_id, 0)
    assert counts(views, batch_id) == {"queued": 1}
    story.tell(again, start(1), report_completed(0))
    assert counts(views, batch_id) == {"succeeded": 1}
    (item,) = views.rows("batch_items")
    assert (item["job_id"], item["jobs"]) == (again, [job, again])


def test_jobs_of_no_batch_touch_no_row(story: Story, views: Views) -> None:
    story.open_batch(1)
    before = [views.catch_up().rows(table) for table in BATCHES.tables]
    story.finished(3)
    assert [views.catch_up().rows(table) for table in BATCHES.tables] == before


def test_of_two_preferences_on_a_pair_the_later_counts(story: Story, views: Views) -> None:
    batch_id, (one, other) = story.open_batch(1, 1, kind="comparison")
    pair = asset_id(one, 0), asset_id(other, 0)
    for winner, loser, blind in ((*pair, False), (*pair[::-1], True)):
        jobs = (one, other) if winner == pair[0] else (other, one)
        story.tell_batch(batch_id, PreferAsset(winner, loser, blind, NOW, *jobs))
    (row,) = views.catch_up().rows("batch_preferences")
    assert (row["winner"], {row["one"], row["other"]}, row["blind"]) == (pair[1], set(pair), True)


def test_a_batch_is_found_by_its_name_its_collection_and_its_templates(story: Story, views: Views) -> None:
    batch_id, _ = story.open_batch(1, 0, name="Vixens", collection="Späth'erbst")
    story.tell_batch(batch_id, RenameBatch("Reds", NOW))

    def finds(text: str) -> bool:
        asked = "select count(*) from views.batches where words @@ websearch_to_tsquery('simple', %s)"
        return views.catch_up().ask(asked, text) == [(1,)]

    assert [finds(text) for text in ("reds", "SPÄTH", "template 1", "vixens")] == [True, True, True, False]


@pytest.mark.parametrize("batch_events", [1, 2, 1_000])
def test_a_thousand_items_are_counted_however_their_events_come(
    database: Database, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch, batch_events: int
) -> None:
    story, views = Story(ledger, clock.tick), Views(database, ledger, BATCHES)
    monkeypatch.setattr("services.views.projector.BATCH_EVENTS_MAX", batch_events)
    batch_id, jobs = story.open_batch(*([1] * (1_000 if batch_events == 1_000 else 5)))
    for job in jobs[:4]:
        story.tell(job, start(1), report_completed(0))
    assert counts(views, batch_id) == {"queued": len(jobs) - 4, "succeeded": 4}
