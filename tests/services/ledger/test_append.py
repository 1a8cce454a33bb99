"""The SQL function behind every append: readers never skip, commits are judged each by itself, nothing changes."""

import hashlib
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.rows import TupleRow

from services.database import Database
from services.ledger import InMemoryRecorder, PostgresRecorder
from services.ledger.commits import SQL as COMMITS
from services.ledger.commits import Commit, Guard, NewEvent, Receipt, columns_of
from services.ledger.flusher import Flusher
from services.ledger.recorders import SQL as LEDGER
from tests.services.commits import (
    WAIT_S_MAX,
    appends_held_up,
    commit,
    event,
    eventually,
    opening,
    verdict,
)

Row = tuple[int, str, int | None, int | None]


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[TupleRow]]:
    """A connection of our own, to speak to the function directly."""
    with database.connection() as checked_out:
        yield checked_out


def append(connection: Connection[TupleRow], *commits: Commit) -> list[Row]:
    """One group, in one round trip: number, verdict, first and last position of each commit."""
    return connection.execute(COMMITS["append"], columns_of(commits), binary=True).fetchall()


def positions(connection: Connection[TupleRow], after: int = 0, limit: int = 1_000_000) -> list[int]:
    """What a reader sees."""
    return [row[0] for row in connection.execute(LEDGER["read_after"], (after, limit))]


# Readers never skip.


def test_a_reader_sees_every_position_in_order_while_many_processes_append(dsn: str) -> None:
    writers, commits_each = 4, 60
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        with psycopg.connect(dsn, autocommit=True) as reading:
            while True:
                last_look = done.is_set()
                fresh = positions(reading, after=seen[-1] if seen else 0, limit=50)
                seen.extend(fresh)
                if last_look and not fresh:
                    return

    def write(flusher: Flusher) -> None:
        for number in range(commits_each):
            flusher.append(opening(events=1 + number % 3)).result(timeout=WAIT_S_MAX)

    reader = threading.Thread(target=read)
    reader.start()
    flushers = [Flusher(dsn) for _ in range(writers)]
    with ThreadPoolExecutor(max_workers=2 * writers) as pool:
        for flusher in flushers:
            flusher.__enter__()
        written = [pool.submit(write, flusher) for flusher in flushers for _ in range(2)]
        for future in written:
            future.result()
    for flusher in flushers:
        flusher.close()
    done.set()
    reader.join()
    assert seen == list(range(1, writers * 2 * commits_each * 2 + 1))


def test_a_second_transaction_gets_its_positions_only_when_the_first_has_ended(dsn: str) -> None:
    with (
        ThreadPoolExecutor(max_workers=1) as thread,
        psycopg.connect(dsn, autocommit=True) as reader,
        psycopg.connect(dsn) as second,
        psycopg.connect(dsn) as first,
    ):
        append(first, opening())  # not committed yet
        answer = thread.submit(append, second, opening())
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted and pid = %s"
        eventually(lambda: reader.execute(waiting, (second.info.backend_pid,)).fetchone())
        assert positions(reader) == []
        first.commit()
        assert answer.result(timeout=WAIT_S_MAX) == [(1, "appended", 2, 2)]
        assert positions(reader) == [1]
        second.commit()
        assert positions(reader) == [1, 2]


def test_a_transaction_that_is_rolled_back_leaves_no_gap(dsn: str) -> None:
    with psycopg.connect(dsn) as first:
        append(first, opening(events=3))
        first.rollback()
        assert append(first, opening()) == [(1, "appended", 1, 1)]


# Each commit of a group is judged by itself.


def test_of_a_group_with_a_conflict_all_others_land(connection: Connection[TupleRow]) -> None:
    taken = uuid4()
    append(connection, opening(taken))
    rows = append(connection, opening(events=2), opening(taken), opening())
    assert rows == [(1, "appended", 2, 3), (2, "conflict", None, None), (3, "appended", 4, 4)]
    assert positions(connection) == [1, 2, 3, 4]


def test_of_two_commits_on_one_stream_in_one_group_the_first_wins(connection: Connection[TupleRow]) -> None:
    stream = uuid4()
    assert [row[1] for row in append(connection, opening(stream), opening(stream))] == ["appended", "conflict"]


def test_commits_of_one_group_may_follow_one_another(connection: Connection[TupleRow]) -> None:
    stream = uuid4()
    rows = append(connection, opening(stream), commit(event(stream, 2)), commit(event(stream, 3)))
    assert rows == [(1, "appended", 1, 1), (2, "appended", 2, 2), (3, "appended", 3, 3)]


def test_the_same_command_twice_in_one_group_appends_once(connection: Connection[TupleRow]) -> None:
    once = opening(events=2)
    assert append(connection, once, once) == [(1, "appended", 1, 2), (2, "repeated", 1, 2)]
    other_body = commit(event(uuid4(), 1))
    again = replace(opening(), command_id=other_body.command_id)
    assert append(connection, other_body, again) == [(1, "appended", 3, 3), (2, "repeated", 3, 3)]
    assert positions(connection) == [1, 2, 3]


def test_a_guard_sees_what_an_earlier_commit_of_the_group_wrote(connection: Connection[TupleRow]) -> None:
    guarded, other = uuid4(), uuid4()
    late = commit(event(uuid4(), 1), guards=[Guard(guarded, 0)])
    assert [row[1] for row in append(connection, opening(guarded), late)] == ["appended", "conflict"]
    in_time = commit(event(uuid4(), 1), guards=[Guard(other, 1)])
    assert [row[1] for row in append(connection, opening(other), in_time)] == ["appended", "appended"]
    first = commit(event(uuid4(), 1), guards=[Guard(other, 1)])
    rows = append(connection, first, commit(event(other, 2)))
    assert [row[1] for row in rows] == ["appended", "appended"]


def test_a_guard_may_be_on_a_stream_that_its_own_commit_writes(connection: Connection[TupleRow]) -> None:
    stream = uuid4()
    assert append(connection, commit(event(stream, 1), guards=[Guard(stream, 0)])) == [(1, "appended", 1, 1)]
    rows = append(connection, commit(event(stream, 2), guards=[Guard(stream, 2)]))
    assert rows == [(1, "conflict", None, None)]


@pytest.mark.parametrize("versions", [(2,), (1, 3), (3, 4), (1, 1), (2, 1)])
def test_versions_with_a_gap_are_refused(connection: Connection[TupleRow], versions: Sequence[int]) -> None:
    stream = uuid4()
    gapped = commit(*(event(stream, version) for version in versions))
    assert append(connection, gapped) == [(1, "conflict", None, None)]
    assert append(connection, gapped, opening())[1] == (2, "appended", 1, 1)


def test_ten_thousand_events_land_in_one_commit(connection: Connection[TupleRow]) -> None:
    assert append(connection, opening(events=10_000)) == [(1, "appended", 1, 10_000)]
    assert positions(connection) == list(range(1, 10_001))


def test_a_group_without_a_commit_does_nothing(connection: Connection[TupleRow]) -> None:
    assert append(connection) == []
    assert connection.execute("select count(*) from ledger_commits").fetchone() == (0,)


# A group at once is the same as its commits one by one.


@dataclass(frozen=True)
class Draft:
    """A commit on streams that are known by number, each version and guard with how far off it is: mostly not at all.

    A command number that comes again is a command that is sent again. `early`: its maker had not read what the others
    of its group did.
    """

    events: list[tuple[int, int]]
    guards: list[tuple[int, int]]
    command: int | None
    early: bool

    def made(self, streams: list[UUID], commands: list[UUID], ends_before: list[int], ends_now: list[int]) -> Commit:
        """The commit as somebody would make it who has read the streams up to these versions."""
        ends = list(ends_before if self.early else ends_now)
        guards = [Guard(streams[number], ends[number] + off) for number, off in self.guards]
        events: list[NewEvent] = []
        for number, off in self.events:
            ends[number] += 1
            events.append(event(streams[number], ends[number] + off, state=b"%d" % len(events)))
        return commit(*events, guards=guards, command_id=None if self.command is None else commands[self.command])


stream_and_off = st.tuples(st.integers(0, 4), st.sampled_from([0] * 20 + [-1, 1, 2]))
drafts = st.builds(
    Draft,
    events=st.lists(stream_and_off, min_size=1, max_size=3),
    guards=st.lists(stream_and_off, max_size=1),
    command=st.none() | st.integers(0, 3),
    early=st.booleans(),
)
groups_of_drafts = st.lists(st.lists(drafts, min_size=1, max_size=6), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=groups_of_drafts)
def test_a_group_gives_the_verdicts_and_positions_of_its_commits_one_by_one(
    recorder: PostgresRecorder, connection: Connection[TupleRow], groups: list[list[Draft]]
) -> None:
    before = recorder.head()  # of earlier examples: each has streams of its own
    streams, commands = [uuid4() for _ in range(5)], [uuid4() for _ in range(4)]
    memory = InMemoryRecorder()
    for group in groups:
        commits, expected = [], []
        ends_before = ends(memory, streams)
        for number, draft in enumerate(group, start=1):
            commits.append(draft.made(streams, commands, ends_before, ends(memory, streams)))
            expected.append(row_of(number, memory.append(commits[-1]), before))
        assert append(connection, *commits) == expected
    assert list(recorder.read_after(before, 1_000)) == [
        one._replace(position=one.position + before) for one in memory.read_after(0, 1_000)
    ]


def ends(memory: InMemoryRecorder, streams: list[UUID]) -> list[int]:
    """How many events each stream has."""
    return [len(memory.read_streams([stream])) for stream in streams]


def row_of(number: int, answer: "Future[Receipt]", before: int) -> Row:
    """What the function should say of it; `before`: how many positions were handed out before."""
    said = verdict(answer)
    if isinstance(said, str):
        return (number, said, None, None)
    word = "repeated" if said.repeated else "appended"
    return (number, word, said.first_position + before, said.last_position + before)


# Nothing is ever changed, and a change would show.


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set state = 'other'",
        "update ledger set topic = topic where false",
        "delete from ledger",
        "truncate ledger",
        "update ledger_commits set hash = sha256('')",
        "delete from ledger_commits",
        "truncate ledger_commits",
    ],
)
def test_the_ledger_refuses_to_be_changed(connection: Connection[TupleRow], statement: str) -> None:
    append(connection, opening())
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute(statement)
    assert positions(connection) == [1]


def test_each_group_adds_one_link_to_the_chain(dsn: str, flusher: Flusher, connection: Connection[TupleRow]) -> None:
    with appends_held_up(dsn) as until_waiting:
        answers = [flusher.append(opening())]
        until_waiting(1)
        answers += [flusher.append(one) for one in (opening(events=3), opening(), opening(events=2))]
    assert [verdict(answer) for answer in answers]
    append(connection, opening())
    groups = connection.execute("select first_position, last_position, hash from ledger_commits order by 1").fetchall()
    assert [(first, last) for first, last, _ in groups] == [(1, 1), (2, 7), (8, 8)]
    assert [link for _, _, link in groups] == _chain(connection, groups)


def test_a_group_that_appends_nothing_adds_no_link(connection: Connection[TupleRow]) -> None:
    once = opening()
    append(connection, once)
    append(connection, once, opening(once.events[0].stream_id))
    assert connection.execute("select count(*) from ledger_commits").fetchone() == (1,)


def _chain(connection: Connection[TupleRow], groups: "list[TupleRow]") -> list[bytes]:
    """The hashes as DESIGN says they come about, computed here without the function."""
    columns = "notification_id, originator_id, originator_version, topic, state"
    links, previous = [], bytes(32)
    for first, last, _ in groups:
        rows = connection.execute(
            f"select {columns} from ledger where notification_id between %s and %s order by 1", (first, last)
        )
        parts = (
            struct.pack(">q16sq", position, stream.bytes, version)
            + hashlib.sha256(topic.encode()).digest()
            + hashlib.sha256(state).digest()
            for position, stream, version, topic, state in rows
        )
        previous = hashlib.sha256(previous + b"".join(parts)).digest()
        links.append(previous)
    return links
