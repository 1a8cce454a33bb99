"""What was made of prompts, in every view: live, rebuilt, and next to streams of another kind."""

from uuid import uuid4

import pytest

from domain.commands import NoteOfAttempt
from domain.errors import PromptAlreadyEnhanced
from domain.events import EnhancementMade, JobWarned
from projections import ALL
from services.ledger import Context, Ledger
from services.ledger.commits import Conflict
from services.views.rebuild import rebuild
from tests.histories import Story, Views
from tests.spec import ENHANCED, NOW, OWNER, note, report_completed, start

MADE = EnhancementMade(
    owner=OWNER, job_type="sdxl_image_fast", original="fog", enhanced="fog, soft light", enhancer="rules 1"
)


def test_a_job_keeps_what_its_first_attempt_made_of_the_prompt(story: Story, views: Views) -> None:
    plain = story.finished()
    enhanced = story.submit(1)
    story.tell(enhanced, start(1), note(ENHANCED))
    again = NoteOfAttempt(ENHANCED.model_copy(update={"enhanced": "something else"}), NOW)
    with pytest.raises(PromptAlreadyEnhanced):
        story.tell(enhanced, again)
    story.tell(enhanced, report_completed(0))
    rows = {row["job_id"]: row for row in views.catch_up().rows("jobs")}
    assert rows[enhanced]["enhanced_prompt"] == ENHANCED.enhanced
    assert rows[enhanced]["recipe"]["prompt"] != ENHANCED.enhanced
    assert rows[plain]["enhanced_prompt"] is None


def test_a_job_keeps_what_its_attempts_warned_of(story: Story, views: Views) -> None:
    plain = story.finished()
    warned = story.submit(1)
    first = JobWarned(attempt=1, code="prompt_cut_off", detail="The model does not read “dusk”.")
    second = JobWarned(attempt=1, code="sound_lost", detail="The sound is gone.")
    story.tell(warned, start(1), note(first), note(first), note(second), report_completed(0))
    rows = {row["job_id"]: row for row in views.catch_up().rows("jobs")}
    assert rows[warned]["warnings"] == [each.model_dump(include={"code", "detail"}) for each in (first, second)]
    assert rows[plain]["warnings"] is None
    assert [rebuild(views.database, views.ledger, view).same for view in ALL] == [True] * len(ALL)


def test_an_enhancement_is_history_and_nothing_else(story: Story, views: Views) -> None:
    story.finished()
    before = views.catch_up().all_rows()
    position = story.ledger.keep_enhancement(uuid4(), MADE, NOW, Context(OWNER, OWNER))
    after = views.catch_up().all_rows()
    assert [row for row in after.pop("history") if row not in before["history"]] == [
        row for row in views.rows("history") if row["position"] == position
    ]
    assert after == {table: rows for table, rows in before.items() if table != "history"}
    assert views.parked() == []


def test_every_view_is_the_same_when_it_is_built_again(story: Story, views: Views) -> None:
    job = story.submit(1)
    story.tell(job, start(1), note(ENHANCED), report_completed(0))
    story.ledger.keep_enhancement(uuid4(), MADE, NOW, Context(OWNER, OWNER))
    views.catch_up()
    assert [rebuild(views.database, views.ledger, view).same for view in ALL] == [True] * len(ALL)


def test_an_id_is_taken_once(memory_ledger: Ledger) -> None:
    identifier = uuid4()
    assert memory_ledger.keep_enhancement(identifier, MADE, NOW, Context(OWNER, OWNER)) == 1
    with pytest.raises(Conflict):
        memory_ledger.keep_enhancement(identifier, MADE, NOW, Context(OWNER, OWNER))
