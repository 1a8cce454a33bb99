"""The checks that the other tests rely on: one that was left alone passes, and damage learns by its name."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from projections import ALL
from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from tests.system import calls, invariants
from tests.system.calls import MARKS, Call, Made, Retry
from tests.system.facts import Fact
from tests.system.folding import fold_all, shown
from tests.system.installation import Installation
from tests.system.invariants import Heard, Place, Submission, what_is_wrong
from tests.system.losses import Losses
from tests.system.stored import as_of, differences


@pytest.fixture(scope="module")
def place(installation: Installation) -> Place:
    """At rest, after jobs that succeeded, failed and were canceled."""
    jobs = [installation.submit(tags=[f"job-{number}"], params={"steps": 2}, quantity=3) for number in range(3)]
    installation.request("POST", f"/v1/jobs/{jobs[2]['id']}/cancel")
    item = {"template": "Fox", "job_type": "sdxl_image_fast", "prompt": "a fox", "quantity": 1, "params": {"steps": 2}}
    batch = {"name": "Foxes", "items": [item, item | {"prompt": ""}]}
    opened = installation.request("POST", "/v1/batches", json=batch)
    assert opened.status_code == 202, opened.text
    installation.done({"id": opened.json()["items"][0]["job_id"]})
    ended = [installation.job_when(job["id"], "succeeded", "canceled") for job in jobs]
    for score in (2, 5):
        asset = ended[0]["assets"][0]["id"]
        assert installation.request("PUT", f"/v1/assets/{asset}/rating", json={"score": score}).status_code == 200
    studio(installation)
    held(installation)
    thumbnails = "select count(*) from views.assets where status = 'completed' and thumbnail_sha256 is null"
    installation.wait_until(lambda: installation.rows(thumbnails) == [(0,)], 60)
    head = "select max(notification_id) from ledger"
    behind = f"select count(*) from view_progress where position < ({head})"
    installation.wait_until(lambda: installation.rows(behind) == [(0,)], 20)
    return Place.of(installation.folder)


def studio(installation: Installation) -> None:
    """A comparison with a preference, a new name and a job that runs again; a prompt that is edited, one deleted."""
    types = ("sdxl_image_fast", "sdxl_image_high")
    variants = [{"job_type": job_type, "quantity": 1, "params": {"steps": 2}} for job_type in types]
    body = {"kind": "comparison", "name": "Steps", "prompt": "a fox", "seed": 7, "variants": variants}
    compared = installation.request("POST", "/v1/batches", json=body).json()
    jobs = [installation.done({"id": item["job_id"]}) for item in compared["items"]]
    winner, loser = (job["assets"][0]["id"] for job in jobs)
    path = f"/v1/batches/{compared['id']}"
    said = [("POST", f"{path}/preferences", {"winner": winner, "loser": loser}), ("PATCH", path, {"name": "Few steps"})]
    saved = {"prompt": "a fox", "job_type": "sdxl_image_fast"}
    for method, about, content in [
        *said,
        *(("POST", "/v1/prompts", saved | {"title": title}) for title in ("Fox", "Fog")),
    ]:
        answer = installation.request(method, about, json=content)
        assert answer.is_success, answer.text
    kept = {
        one["title"]: one["id"]
        for one in installation.request("GET", "/v1/prompts", headers=after(answer)).json()["results"]
    }
    assert installation.request("PATCH", f"/v1/prompts/{kept['Fox']}", json={"title": "Foxes"}).status_code == 200
    assert installation.request("DELETE", f"/v1/prompts/{kept['Fog']}").status_code == 204
    again = installation.request("POST", f"{path}/retry", json={"items": [0]})
    assert again.status_code == 202, again.text
    installation.done({"id": again.json()["items"][0]["job_id"]})


def held(installation: Installation) -> None:
    """A pool that is paused, and a worker that was drained and takes jobs again."""
    for path in ("pools/wan/pause", "workers/nobody/drain", "workers/nobody/resume"):
        answer = installation.request("POST", f"/v1/admin/{path}", json={"reason": "to be looked at"})
        assert answer.is_success, answer.text


def after(answer: httpx.Response) -> dict[str, str]:
    """A header that waits for what was answered so."""
    return {"Darkroom-Min-Position": answer.headers["Darkroom-Position"]}


def made_of(facts: list[Fact]) -> Made:
    """What those who made all calls behind these facts know of them."""
    calls = [
        Call(fact.owner, fact.name, MARKS[fact.name](fact), "accepted", fact.stream, fact.position)
        for fact in facts
        if fact.name in MARKS
    ]
    again = [fact for fact in facts if fact.name == "job.queued" and fact.data["parent_id"]]
    return Made(calls, [Retry(fact.owner, fact.data["batch_id"], "accepted", [fact.stream]) for fact in again])


def heard_of(facts: list[Fact]) -> Heard:
    events: list[tuple[int, dict[str, Any]]] = [
        (fact.position, {"type": fact.name, "stream": fact.stream, "version": fact.version, "data": fact.data})
        for fact in facts
    ]
    return Heard(facts[0].owner, 0, events)


def test_an_installation_that_was_left_alone_passes(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    queued = [fact.stream for fact in facts if fact.name == "job.queued" and fact.data["tags"]]
    said = [Submission(f"job-{number}", "accepted", job_id) for number, job_id in enumerate(queued)]
    said += [Submission("never", "refused"), Submission("lost")]
    found = what_is_wrong(place, said, [heard_of(facts)], made_of(facts), moments=20)
    assert found.wrong == []
    assert not found.excepted
    assert len(found.facts) > 20


def test_a_file_that_nobody_knows_and_one_that_changed_are_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    stray = place.blobs / "sdxl-fast" / "nobody.png"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    named = place.blobs / next(fact.data["path"] for fact in facts if fact.name == "asset.thumbnailed")
    before = named.read_bytes()
    named.write_bytes(before + b"!")
    try:
        found = invariants.Found()
        assert list(invariants.files(place.blobs, facts, found.excepted)) == [
            f"{named.relative_to(place.blobs)} has another content than the ledger says",
            "sdxl-fast/nobody.png belongs to nothing",
        ]
    finally:
        named.write_bytes(before)
        stray.unlink()


def test_a_row_of_a_view_that_changed_is_reported(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("update views.jobs set cancel_requested = not cancel_requested where attempt = 1")
    try:
        wrong = what_is_wrong(place).wrong
    finally:  # the check has put it right: it rebuilds
        assert what_is_wrong(place).wrong == []
    assert "the live view jobs is not what the ledger gives" in wrong


def test_what_the_ledger_should_not_hold_is_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    completed = next(fact for fact in facts if fact.name == "asset.completed")
    late = replace(completed, position=len(facts) + 1, version=completed.version + 1)
    (ended,) = invariants.endings([*facts, late])
    assert "ended 2 times" in ended
    (reported,) = invariants.attempts([*facts, late])
    assert "is of attempt 1 while None runs" in reported
    another = [replace(fact, actor="worker.other") if fact is completed else fact for fact in facts]
    (told,) = invariants.attempts(another)
    assert "is by worker.other" in told
    (missing,) = invariants.order([fact for fact in facts if fact.position != 3])
    assert missing == "position 3 is missing: 4 stands in its place"


def test_submits_and_streams_that_do_not_fit_are_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    queued = next(fact for fact in facts if fact.name == "job.queued")
    twice = [*facts, replace(queued, stream="another")]
    for answer in ("accepted", "refused", "doubtful"):
        assert len(list(invariants.submissions(twice, [Submission("job-0", answer, queued.stream)]))) == 1
    assert len(list(invariants.submissions(facts, [Submission("job-9", "accepted", "somewhere")]))) == 1
    lost, doubled, other = (heard_of(facts) for _ in range(3))
    del lost.events[4]
    doubled.events.insert(4, doubled.events[4])
    other.events[4] = (other.events[4][0], {**other.events[4][1], "version": 99})
    for client in (lost, doubled, other):
        assert len(list(invariants.event_streams(facts, [client]))) == 1


def test_a_stream_that_is_not_the_ledger_is_reported(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # the ledger refuses updates
        connection.execute("update ledger set state = state || ' ' where notification_id = 2")
        try:
            wrong = what_is_wrong(place).wrong
        finally:
            connection.execute("update ledger set state = trim(' ' from state) where notification_id = 2")
    assert "LEDGER has something else at 2 than the ledger at 2" in wrong
    assert any("the chain does not verify" in one for one in wrong)


def test_calls_that_are_lost_doubled_or_nobodys_are_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    made = made_of(facts)
    assert {call.name for call in made.calls} == set(MARKS)
    assert len(made.retries) == 1
    for call in made.calls:
        (its,) = [fact for fact in facts if fact.position == call.position]
        doubled = [*facts, replace(its, position=len(facts) + 1)]
        for damaged in ([fact for fact in facts if fact is not its], doubled):
            assert len(list(calls.calls(damaged, made.calls))) == 1, call
        others = [one for one in made.calls if one is not call]
        assert len(list(calls.calls(facts, others))) == 1
        for answer, number in (("refused", 1), ("doubtful", 0), ("accepted", 0)):
            assert len(list(calls.calls(facts, [*others, replace(call, answer=answer)]))) == number
        early = replace(call, position=its.position - 1)
        assert len(list(calls.calls(facts, [*others, early]))) == 1
        assert len(list(calls.calls(facts, [*others, replace(call, stream="another")]))) == 1


def test_what_a_restore_took_is_excused_and_nothing_else(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    made = made_of(facts)
    called = [fact for fact in facts if fact.name in MARKS]
    for gone, other in pairwise(called):
        after = [fact for fact in facts if fact is not gone]
        losses = Losses()
        assert losses.add(facts, after) == 1
        assert list(calls.calls(after, made.calls, losses.marks)) == []
        less = [fact for fact in after if fact is not other]
        assert len(list(calls.calls(less, made.calls, losses.marks))) == 1, other
    (again,) = made.retries
    after = [fact for fact in facts if fact.stream not in again.jobs]
    assert len(list(calls.retries(after, [again]))) == 1
    assert list(calls.retries(after, [again], frozenset(again.jobs))) == []
    queued = next(fact for fact in facts if fact.name == "job.queued" and fact.data["tags"] == ["job-0"])
    said = [Submission("job-0", "accepted", queued.stream)]
    after = [fact for fact in facts if fact is not queued]
    assert len(list(invariants.submissions(after, said))) == 1
    assert list(invariants.submissions(after, said, {queued.stream})) == []
    doubled = [*facts, replace(queued, stream="another")]
    assert len(list(invariants.submissions(doubled, said, {queued.stream}))) == 1


def test_ids_of_another_epoch_are_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    heard = heard_of(facts)
    heard.ids = [f"{'ab12-' if position >= 5 else ''}{position}" for position, _ in heard.events]
    assert list(invariants.event_streams(facts, [heard], [("", 1), ("ab12-", 5)])) == []
    assert len(list(invariants.event_streams(facts, [heard], [("", 1), ("ab12-", 6)]))) == 1
    assert len(list(invariants.event_streams(facts, [heard], [("", 1)]))) == len(facts) - 4


def test_what_is_said_twice_and_jobs_that_nobody_asked_for_are_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    for name in ("asset.rated", "batch.renamed", "batch.preferred", "prompt.edited"):
        last = [fact for fact in facts if fact.name == name][-1]
        assert len(list(calls.repeats([*facts, replace(last, position=len(facts) + 1)]))) == 1
    (again,) = made_of(facts).retries
    assert list(calls.retries(facts, [again])) == []
    for known in ([], [replace(again, answer="refused")], [replace(again, answer="doubtful", of="another")]):
        assert len(list(calls.retries(facts, known))) == 1
    assert list(calls.retries(facts, [replace(again, answer="doubtful", jobs=[])])) == []
    assert len(list(calls.retries(facts, [again, replace(again, jobs=["never"])]))) == 1


def test_a_batch_that_lacks_a_job_or_an_item_is_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    assert list(calls.batches(facts)) == []
    jobs = [fact for fact in facts if fact.name == "job.queued" and fact.data["batch_id"]]
    items = [fact for fact in facts if fact.name == "batch.item_added" and fact.data["index"] == 0]
    preferred = next(fact for fact in facts if fact.name == "batch.preferred")
    itself = replace(preferred, data=preferred.data | {"winner": preferred.data["loser"]})
    other_seed = replace(jobs[-2], data=jobs[-2].data | {"recipe": jobs[-2].data["recipe"] | {"seeds": [8]}})
    for damaged in (
        [fact for fact in facts if fact is not jobs[0]],
        [fact for fact in facts if fact is not items[0]],
        [*facts, items[0]],
        [itself if fact is preferred else fact for fact in facts],
        [other_seed if fact is jobs[-2] else fact for fact in facts],
    ):
        assert list(calls.batches(damaged))


def test_a_view_as_of_a_position_that_is_not_its_past_is_reported(place: Place) -> None:
    facts = invariants.facts_of(place.dsn)
    facts[0] = replace(facts[0], data=facts[0].data | {"tags": ["another"]})
    with (
        Database(place.dsn) as database,
        Flusher(place.dsn) as flusher,
        Ledger(PostgresRecorder(database, flusher)) as ledger,
    ):
        wrong = list(as_of(database, ledger, facts, 3))
    assert len([one for one in wrong if one.startswith("as of ") and "views.jobs has" in one]) == 3, wrong


def test_every_table_of_the_views_is_folded() -> None:
    folded = fold_all([]).keys() | {"scores"}  # scores are computed afresh: see tests/afresh.py
    assert folded == {table for view in ALL for table in view.tables}


@pytest.mark.parametrize("table", [table for table in fold_all([]) if table != "queue"])  # which is empty
def test_a_row_of_any_table_that_changed_is_reported(place: Place, table: str) -> None:
    expected = fold_all(invariants.facts_of(place.dsn))[table]
    with psycopg.connect(place.dsn) as connection:
        assert list(differences(table, expected, shown(connection, table, expected))) == []
        name = Identifier("views", table)
        lost = SQL("delete from {} where ctid = (select ctid from {} limit 1)").format(name, name)
        assert connection.execute(lost).rowcount == 1
        assert len(list(differences(table, expected, shown(connection, table, expected)))) == 1
        connection.rollback()
