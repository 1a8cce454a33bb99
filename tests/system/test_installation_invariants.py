"""The checks that the other tests rely on: one that was left alone passes, and damage is told by its name."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.system import invariants
from tests.system.facts import Fact
from tests.system.installation import Installation
from tests.system.invariants import Heard, Place, Submission, what_is_wrong

pytestmark = pytest.mark.timeout(300)


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
    thumbnails = "select count(*) from views.assets where status = 'completed' and thumbnail_sha256 is null"
    installation.wait_until(lambda: installation.rows(thumbnails) == [(0,)], 60)
    head = "select max(notification_id) from ledger"
    behind = f"select count(*) from view_progress where position < ({head})"
    installation.wait_until(lambda: installation.rows(behind) == [(0,)], 20)
    return Place.of(installation.folder)


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
    found = what_is_wrong(place, [*said, Submission("never", "refused"), Submission("lost")], [heard_of(facts)])
    assert found.wrong == []
    assert not found.excepted
    assert len(found.facts) > 20


def test_a_file_that_nobody_knows_and_one_that_changed_are_told(place: Place) -> None:
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


def test_a_row_of_a_view_that_changed_is_told(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("update views.jobs set cancel_requested = not cancel_requested where attempt = 1")
    try:
        wrong = what_is_wrong(place).wrong
    finally:  # the check has put it right: it rebuilds
        assert what_is_wrong(place).wrong == []
    assert "the live view jobs is not what the ledger gives" in wrong


def test_what_the_ledger_should_not_hold_is_told(place: Place) -> None:
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


def test_submits_and_streams_that_do_not_fit_are_told(place: Place) -> None:
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


def test_a_stream_that_is_not_the_ledger_is_told(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")  # the ledger refuses updates
        connection.execute("update ledger set state = state || ' ' where notification_id = 2")
        try:
            wrong = what_is_wrong(place).wrong
        finally:
            connection.execute("update ledger set state = trim(' ' from state) where notification_id = 2")
    assert "LEDGER has something else at 2 than the ledger at 2" in wrong
    assert any("the chain does not verify" in one for one in wrong)
