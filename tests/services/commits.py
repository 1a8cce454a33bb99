"""Commits for tests of the ledger's lowest layer, where an event is a topic and bytes, and the means to hold them up."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg

from services.flusher import Commit, Conflict, Guard, NewEvent, Receipt

WAIT_S_MAX = 30.0


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
def appends_held_up(dsn: str) -> Iterator[Callable[[], None]]:
    """Nobody can append while the block runs. What it yields waits until a connection stands in front of the lock."""
    with psycopg.connect(dsn, autocommit=True) as holder, holder.transaction():
        holder.execute("select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0))")
        waiting = "select from pg_locks where locktype = 'advisory' and not granted and database = %s"
        oid = holder.execute("select oid from pg_database where datname = current_database()").fetchone()
        assert oid is not None
        yield lambda: eventually(lambda: holder.execute(waiting, oid).fetchone())
