"""The one writer of a process: what it confirms is in the ledger once, and what it cannot reach it says in time."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from services.database import Unavailable
from services.ledger import PostgresRecorder
from services.ledger import flusher as flushers
from services.ledger.commits import Conflict, Receipt
from services.ledger.flusher import Flusher, OutcomeUnknown
from tests.services.commits import (
    WAIT_S_MAX,
    appends_held_up,
    commit,
    event,
    eventually,
    opening,
    verdict,
)
from tests.services.lossy_proxy import LossyProxy

CLOSINGS, WRITERS = 30, 8


@pytest.fixture
def proxy(dsn: str) -> Iterator[LossyProxy]:
    """A line to the fresh database that can be cut."""
    with LossyProxy(dsn) as line:
        yield line


def counts(dsn: str) -> tuple[int, int]:
    """How many events the ledger has, in how many groups."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select (select count(*) from ledger), (select count(*) from ledger_commits)"
        ).fetchone()
        assert row is not None
        return row[0], row[1]


# The line is cut.


def test_a_commit_whose_answer_is_lost_is_sent_again_and_appended_once(dsn: str, proxy: LossyProxy) -> None:
    with Flusher(proxy.dsn) as flusher:
        proxy.lose_next_answer(passed_first=2)  # which process answers, and in which epoch the ledger is
        receipt = flusher.append(opening(events=3)).result(timeout=WAIT_S_MAX)
    assert proxy.cuts == 1
    assert receipt == Receipt(1, 3, repeated=True)  # it had landed: the second sending found its command id
    assert counts(dsn) == (3, 1)


def test_a_commit_that_was_lost_on_its_way_is_sent_again(dsn: str, proxy: LossyProxy) -> None:
    with Flusher(proxy.dsn) as flusher:
        flusher.append(opening()).result(timeout=WAIT_S_MAX)
        proxy.lose_next_statement()
        receipt = flusher.append(opening(events=3)).result(timeout=WAIT_S_MAX)
    assert proxy.cuts == 1
    assert receipt == Receipt(2, 4)
    assert counts(dsn) == (4, 2)


def test_a_group_whose_answer_is_lost_keeps_each_verdict(dsn: str, proxy: LossyProxy) -> None:
    taken = uuid4()
    with Flusher(proxy.dsn) as flusher:
        flusher.append(opening(taken)).result(timeout=WAIT_S_MAX)
        with appends_held_up(dsn) as until_waiting:
            alone = flusher.append(opening())
            until_waiting(1)
            answers = [flusher.append(one) for one in (opening(events=2), opening(taken), opening())]
            proxy.lose_next_answer(passed_first=1)
        assert verdict(alone) == Receipt(2, 2)
        kept = [Receipt(3, 4, repeated=True), "conflict", Receipt(5, 5, repeated=True)]
        assert [verdict(answer) for answer in answers] == kept
    assert proxy.cuts == 1
    assert counts(dsn) == (5, 3)


def test_postgres_gone_for_longer_than_the_retry_is_said_and_its_return_is_noticed(
    dsn: str, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushers, "RETRY_S_MAX", 0.3)
    with Flusher(proxy.dsn) as flusher:
        flusher.append(opening()).result(timeout=WAIT_S_MAX)
        proxy.go_away()
        with pytest.raises(Unavailable):
            flusher.append(opening()).result(timeout=WAIT_S_MAX)
        proxy.come_back()
        assert flusher.append(opening(events=2)).result(timeout=WAIT_S_MAX) == Receipt(2, 3)
    assert counts(dsn) == (3, 2)


def test_a_commit_that_may_have_landed_is_said_to_be_in_doubt(
    dsn: str, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushers, "RETRY_S_MAX", 0.0)
    with Flusher(proxy.dsn) as flusher:
        flusher.append(opening()).result(timeout=WAIT_S_MAX)
        proxy.lose_next_answer()
        with pytest.raises(OutcomeUnknown):
            flusher.append(opening(events=3)).result(timeout=WAIT_S_MAX)
        assert counts(dsn) == (4, 2)  # it had landed
        proxy.go_away()
        with pytest.raises(Unavailable) as never_sent:
            flusher.append(opening()).result(timeout=WAIT_S_MAX)
        assert not isinstance(never_sent.value, OutcomeUnknown)


@pytest.mark.parametrize("together", [1, 3])
def test_a_caller_that_gives_up_hears_whether_its_commit_was_on_its_way(
    dsn: str, flusher: Flusher, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(flushers, "ANSWER_S_MAX", 0.3)
    with appends_held_up(dsn) as until_waiting:
        with pytest.raises(OutcomeUnknown):
            flusher.write_each([opening() for _ in range(together)])
        until_waiting(1)
        for write in (lambda: flusher.write(opening()), lambda: flusher.write_each([opening(), opening()])):
            with pytest.raises(Unavailable) as taken_back:
                write()
            assert not isinstance(taken_back.value, OutcomeUnknown)
        promised = flusher.append(opening())
        assert promised.cancel()
    assert flusher.append(opening()).result(timeout=WAIT_S_MAX).first_position == together + 1
    assert counts(dsn)[0] == together + 1  # what was taken back never lands


def test_a_promised_commit_that_is_on_its_way_cannot_be_taken_back(dsn: str, flusher: Flusher) -> None:
    with appends_held_up(dsn) as until_waiting:
        promised = flusher.append(opening())
        until_waiting(1)
        assert not promised.cancel()
    assert promised.result(timeout=WAIT_S_MAX).first_position == 1


def test_postgres_gone_for_a_moment_is_not_noticed_by_anybody(dsn: str, proxy: LossyProxy) -> None:
    with Flusher(proxy.dsn) as flusher:
        flusher.append(opening()).result(timeout=WAIT_S_MAX)
        proxy.go_away()
        answer = flusher.append(opening())
        time.sleep(0.2)  # it tries and is refused meanwhile; how often does not matter
        assert not answer.done()
        proxy.come_back()
        assert answer.result(timeout=WAIT_S_MAX) == Receipt(2, 2)


def test_a_backend_that_is_terminated_in_the_middle_appends_once(dsn: str, flusher: Flusher) -> None:
    with appends_held_up(dsn) as until_waiting, psycopg.connect(dsn, autocommit=True) as admin:
        answer = flusher.append(opening(events=2))
        until_waiting(1)
        waiting = "select pid from pg_locks where locktype = 'advisory' and not granted"
        admin.execute(f"select pg_terminate_backend(pid) from ({waiting}) as waiting")
    assert answer.result(timeout=WAIT_S_MAX) == Receipt(1, 2)
    assert counts(dsn) == (2, 1)


# Many at once.


def test_sixteen_callers_all_get_their_own_receipts(flusher: Flusher, recorder: PostgresRecorder) -> None:
    def call(_: int) -> None:
        stream = uuid4()
        for version in range(1, 21):
            receipt = flusher.append(commit(event(stream, version))).result(timeout=WAIT_S_MAX)
            [stored] = recorder.read_after(receipt.first_position - 1, 1)
            assert (stored.position, stored.stream_id, stored.version) == (
                receipt.last_position,
                stream,
                version,
            )

    with ThreadPoolExecutor(max_workers=16) as pool:
        assert len(list(pool.map(call, range(16)))) == 16
    assert recorder.head() == 16 * 20


def test_what_waits_travels_together_up_to_the_bound(dsn: str, flusher: Flusher) -> None:
    with appends_held_up(dsn) as until_waiting:
        answers = [flusher.append(opening())]
        until_waiting(1)
        answers += [flusher.append(opening()) for _ in range(flushers.GROUP_COMMITS_MAX + 44)]
    assert [answer.result(timeout=WAIT_S_MAX).first_position for answer in answers] == list(range(1, 302))
    with psycopg.connect(dsn) as connection:
        groups = connection.execute("select first_position, last_position from ledger_commits order by 1").fetchall()
    assert groups == [(1, 1), (2, 257), (258, 301)]


def test_a_group_is_bounded_in_events_and_a_larger_commit_travels_alone(
    dsn: str, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushers, "GROUP_EVENTS_MAX", 10)
    with appends_held_up(dsn) as until_waiting:
        answers = [flusher.append(opening())]
        until_waiting(1)
        answers += [flusher.append(opening(events=events)) for events in (6, 4, 1, 25, 2)]
    assert [verdict(answer) for answer in answers][-1] == Receipt(38, 39)
    with psycopg.connect(dsn) as connection:
        groups = connection.execute("select first_position, last_position from ledger_commits order by 1").fetchall()
    assert groups == [(1, 1), (2, 11), (12, 12), (13, 37), (38, 39)]


def test_two_flushers_racing_for_one_stream_land_one_commit(dsn: str) -> None:
    stream = uuid4()
    with Flusher(dsn) as one, Flusher(dsn) as other, appends_held_up(dsn) as until_waiting:
        answers = [one.append(opening(stream)), other.append(opening(stream))]
        until_waiting(2)
    verdicts = [verdict(answer) for answer in answers]
    assert sorted(verdicts, key=str) == [Receipt(1, 1), "conflict"]


# Beginning and end.


def test_closing_flushes_what_waits(dsn: str) -> None:
    flusher = Flusher(dsn).__enter__()
    with appends_held_up(dsn) as until_waiting:
        answers = [flusher.append(opening())]
        until_waiting(1)
        answers += [flusher.append(opening()) for _ in range(9)]
        closing = threading.Thread(target=flusher.close)
        closing.start()
    closing.join(WAIT_S_MAX)
    assert not closing.is_alive()
    assert [answer.result(timeout=0).first_position for answer in answers] == list(range(1, 11))


def test_after_closing_nothing_is_taken(flusher: Flusher) -> None:
    flusher.close()
    flusher.close()
    with pytest.raises(Unavailable, match="closing"):
        flusher.append(opening())


def test_closing_does_not_wait_for_a_postgres_that_is_gone(proxy: LossyProxy) -> None:
    flusher = Flusher(proxy.dsn).__enter__()
    proxy.go_away()
    answer = flusher.append(opening())
    flusher.close()
    with pytest.raises(Unavailable):
        answer.result(timeout=0)


def test_a_writer_that_meets_the_closing_is_served_or_refused(dsn: str) -> None:
    for _ in range(CLOSINGS):
        flusher = Flusher(dsn).__enter__()
        started = threading.Barrier(WRITERS + 1)
        with ThreadPoolExecutor(WRITERS) as pool:
            answers = [pool.submit(write_until_closed, flusher, started) for _ in range(WRITERS)]
            started.wait(WAIT_S_MAX)
            flusher.close()
            # Nobody is left to an answer that never comes: that would be "did not answer".
            assert {answer.result(timeout=WAIT_S_MAX) for answer in answers} == {
                "The ledger is closing; nothing was changed."
            }


def write_until_closed(flusher: Flusher, started: threading.Barrier) -> str:
    """Hand in commits as fast as they are answered, from the moment that all start, and return the refusal."""
    started.wait(WAIT_S_MAX)
    while True:
        try:
            flusher.write(opening())
        except Unavailable as refusal:
            return str(refusal)


def test_a_conflict_ends_nobody_elses_commit(flusher: Flusher) -> None:
    stream = uuid4()
    flusher.append(opening(stream)).result(timeout=WAIT_S_MAX)
    with pytest.raises(Conflict):
        flusher.append(opening(stream)).result(timeout=WAIT_S_MAX)
    assert flusher.append(commit(event(stream, 2))).result(timeout=WAIT_S_MAX) == Receipt(2, 2)


def test_readers_are_notified_after_each_commit(dsn: str) -> None:
    told: list[int] = []
    with Flusher(dsn, on_commit=told.append) as flusher:
        stream = uuid4()
        flusher.append(opening(stream, events=3)).result(timeout=WAIT_S_MAX)
        verdict(flusher.append(opening(stream)))  # a conflict: nothing to tell
        flusher.append(opening()).result(timeout=WAIT_S_MAX)
    assert told == [3, 4]


def test_a_call_after_a_commit_that_fails_does_not_end_the_writer(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(position: int) -> None:
        raise RuntimeError(f"Nobody listens at {position}.")

    with Flusher(dsn, on_commit=fail) as flusher:
        assert flusher.append(opening()).result(timeout=WAIT_S_MAX) == Receipt(1, 1)
        assert flusher.append(opening()).result(timeout=WAIT_S_MAX) == Receipt(2, 2)
    eventually(lambda: "Nobody listens at 2." in caplog.text)
