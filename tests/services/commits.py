"""Commits for tests of the ledger's lowest layer, where an event is a topic and bytes; and how to hold them up."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg

from services.ledger.commits import Commit, Conflict, Guard, NewEvent, Receipt

WAIT_S_MAX = 120.0

WAITING = """
select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
where locktype = 'advisory' and not granted and datname = current_database()
"""


def event(stream: UUID, version: int, *, state: bytes = b'{"a":1}') -> NewEvent:
    """One event of a stream."""
    return NewEvent(stream, version, "test.happened.v1", state)


def commit(*events: NewEvent, guards: Sequence[Guard] = (), command_id: UUID | None = None) -> Commit:
    """These events together."""
    return Commit(command_id or uuid4(), events, guards)


def opening(stream: UUID | None = None, events: int = 1) -> Commit:
    """The first events of a stream, of a new one unless given."""
    opened = stream or uuid4()
    return commit(*(event(opened, version) for version in range(1, events + 1)))


def verdict(answer: "Future[Receipt]") -> Receipt | str:
    """The receipt, or the word conflict."""
    try:
        return answer.result(timeout=WAIT_S_MAX)
    except Conflict as conflict:
        return conflict.code


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds; fail when it does not within `WAIT_S_MAX`."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "It did not come true in time."
        time.sleep(0.005)


@contextmanager
def appends_held_up(dsn: str) -> Iterator[Callable[[int], None]]:
    """Nobody can append while the block runs. What it yields waits until so many connections stand before the lock."""
    with psycopg.connect(dsn, autocommit=True) as holder, holder.transaction():
        holder.execute("select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0))")

        def until_waiting(connections: int) -> None:
            eventually(lambda: holder.execute(WAITING).fetchone() == (connections,))

        yield until_waiting
