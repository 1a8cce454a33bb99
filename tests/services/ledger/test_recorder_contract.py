"""What the ledger may expect of any recorder: one suite, both recorders."""

from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from services.ledger import InMemoryRecorder, PostgresRecorder, RawEvent
from services.ledger.commits import Commit, Conflict, Guard, Receipt
from tests.services.commits import WAIT_S_MAX, commit, event, opening, verdict

AnyRecorder = InMemoryRecorder | PostgresRecorder


@pytest.fixture(params=["memory", "postgres"])
def recorder(request: pytest.FixtureRequest) -> Iterator[AnyRecorder]:
    """An empty recorder of each kind."""
    if request.param == "memory":
        yield InMemoryRecorder()
        return
    made = PostgresRecorder(request.getfixturevalue("database"), request.getfixturevalue("flusher"))
    yield made
    made.datastore.close()


def append(recorder: AnyRecorder, made: Commit) -> Receipt:
    """Append and wait."""
    return recorder.append(made).result(timeout=WAIT_S_MAX)


def places(stored: Sequence[RawEvent]) -> list[tuple[int, UUID, int]]:
    """Position, stream and version of each."""
    return [(one.position, one.stream_id, one.version) for one in stored]


def test_an_empty_ledger_has_head_zero_and_nothing_to_read(recorder: AnyRecorder) -> None:
    assert recorder.head() == 0
    assert list(recorder.read_after(0, 10)) == []
    assert list(recorder.read_streams([uuid4()])) == []
    assert list(recorder.read_streams([])) == []


def test_positions_are_handed_out_from_one_in_the_order_of_the_events(recorder: AnyRecorder) -> None:
    a, b = uuid4(), uuid4()
    assert append(recorder, commit(event(a, 1), event(b, 1), event(a, 2))) == Receipt(1, 3)
    assert append(recorder, commit(event(b, 2))) == Receipt(4, 4)
    assert places(recorder.read_after(0, 10)) == [(1, a, 1), (2, b, 1), (3, a, 2), (4, b, 2)]
    assert recorder.head() == 4


def test_an_event_is_read_as_it_was_written(recorder: AnyRecorder) -> None:
    stream, state = uuid4(), bytes(range(256))
    append(recorder, commit(event(stream, 1, state=state)))
    [stored] = recorder.read_after(0, 10)
    assert stored == RawEvent(1, stream, 1, "test.happened.v1", state)
    assert list(recorder.read_streams([stream])) == [stored]


def test_reading_goes_on_after_a_position_up_to_a_limit(recorder: AnyRecorder) -> None:
    append(recorder, opening(events=5))
    assert [one.position for one in recorder.read_after(2, 2)] == [3, 4]
    assert [one.position for one in recorder.read_after(4, 10)] == [5]
    assert list(recorder.read_after(5, 10)) == []


def test_streams_are_read_each_by_version_and_nothing_else_with_them(recorder: AnyRecorder) -> None:
    a, b, other = sorted((uuid4(), uuid4(), uuid4()), key=str)
    append(recorder, commit(event(b, 1), event(other, 1), event(a, 1)))
    append(recorder, commit(event(a, 2), event(other, 2), event(b, 2)))
    assert places(recorder.read_streams([b, a, uuid4()])) == [(3, a, 1), (4, a, 2), (1, b, 1), (6, b, 2)]


@pytest.mark.parametrize("version", [1, 2, 4, 9])
def test_a_version_that_is_not_the_next_one_conflicts_and_appends_nothing(recorder: AnyRecorder, version: int) -> None:
    stream = uuid4()
    append(recorder, opening(stream, events=2))
    with pytest.raises(Conflict):
        append(recorder, commit(event(stream, version)))
    assert recorder.head() == 2


@pytest.mark.parametrize("versions", [(2,), (1, 3), (1, 1), (1, 1, 3), (2, 1), (-1,), (-1, 0, 1)])
def test_a_new_stream_begins_at_one_and_goes_on_one_by_one(recorder: AnyRecorder, versions: tuple[int, ...]) -> None:
    stream = uuid4()
    with pytest.raises(Conflict):
        append(recorder, commit(*(event(stream, version) for version in versions)))
    assert append(recorder, opening(stream)) == Receipt(1, 1)


def test_a_commit_on_several_streams_lands_whole_or_not_at_all(recorder: AnyRecorder) -> None:
    taken, free = uuid4(), uuid4()
    append(recorder, opening(taken))
    with pytest.raises(Conflict):
        append(recorder, commit(event(free, 1), event(taken, 1), event(free, 2)))
    assert places(recorder.read_after(0, 10)) == [(1, taken, 1)]
    assert append(recorder, commit(event(free, 1), event(taken, 2))) == Receipt(2, 3)


def test_a_guard_that_holds_lets_the_commit_land_and_appends_nothing_itself(recorder: AnyRecorder) -> None:
    guarded, written = uuid4(), uuid4()
    append(recorder, opening(guarded, events=2))
    assert append(recorder, commit(event(written, 1), guards=[Guard(guarded, 2)])) == Receipt(3, 3)
    assert append(recorder, commit(event(written, 2), guards=[Guard(uuid4(), 0)])) == Receipt(4, 4)
    assert len(recorder.read_streams([guarded])) == 2


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_guard_that_moved_on_refuses_the_commit(recorder: AnyRecorder, version: int) -> None:
    guarded, written = uuid4(), uuid4()
    append(recorder, opening(guarded, events=2))
    with pytest.raises(Conflict):
        append(recorder, commit(event(written, 1), guards=[Guard(guarded, version)]))
    assert recorder.head() == 2


def test_a_command_id_seen_before_answers_with_its_first_receipt(recorder: AnyRecorder) -> None:
    first = opening(events=3)
    assert append(recorder, first) == Receipt(1, 3)
    append(recorder, opening())
    assert append(recorder, first) == Receipt(1, 3, repeated=True)
    other_body = commit(event(uuid4(), 1), command_id=first.command_id)
    assert append(recorder, other_body) == Receipt(1, 3, repeated=True)
    assert recorder.head() == 4


def test_a_command_id_whose_commit_conflicted_was_not_served(recorder: AnyRecorder) -> None:
    stream = uuid4()
    append(recorder, opening(stream))
    late = commit(event(stream, 1))
    with pytest.raises(Conflict):
        append(recorder, late)
    again = commit(event(stream, 2), command_id=late.command_id)
    assert append(recorder, again) == Receipt(2, 2)


def test_commits_handed_in_together_are_judged_each_by_itself(recorder: AnyRecorder) -> None:
    taken, a, b = uuid4(), uuid4(), uuid4()
    append(recorder, opening(taken))
    twice = commit(event(a, 1))
    group = [
        twice,
        commit(event(taken, 1), event(b, 1)),  # late on one stream
        commit(event(b, 1), guards=[Guard(a, 1)]),  # fits only after the first
        twice,
        commit(event(b, 1)),  # late: the third was faster
        commit(event(a, 2), event(taken, 2)),
    ]
    answers = [recorder.append(one) for one in group]
    assert [verdict(answer) for answer in answers] == [
        Receipt(2, 2),
        "conflict",
        Receipt(3, 3),
        Receipt(2, 2, repeated=True),
        "conflict",
        Receipt(4, 5),
    ]
    assert [one.position for one in recorder.read_after(0, 10)] == [1, 2, 3, 4, 5]


def test_an_empty_commit_is_refused(recorder: AnyRecorder) -> None:
    with pytest.raises(ValueError, match="nothing to append"):
        recorder.append(Commit(uuid4(), []))
    assert recorder.head() == 0


def test_what_was_handed_in_is_taken_back_or_lands(recorder: AnyRecorder) -> None:
    answers = [recorder.append(opening()) for _ in range(20)]
    landed = [answer for answer in answers if not answer.cancel()]
    assert [answer.result(timeout=WAIT_S_MAX).first_position for answer in landed] == list(range(1, len(landed) + 1))
    assert recorder.append(opening()).result(timeout=WAIT_S_MAX) == Receipt(len(landed) + 1, len(landed) + 1)
