"""What is appended together: events as a commit, and commits as a group, in one call of `ledger_append`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from projections.arrays import PackedArray, byteas, int4s, int8s, texts, uuids
from projections.sql import load

SQL = load("commits.sql", "services.ledger")

GROUP_COMMITS_MAX: Final = 256
"""Maximum number of commits in a group: many share an fsync, and none waits long."""

GROUP_EVENTS_MAX: Final = 10_000
"""Maximum number of events in a group; a single larger commit is sent alone."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An encoded event to append."""

    stream_id: UUID
    version: int
    topic: str
    state: bytes


@dataclass(frozen=True, slots=True)
class Guard:
    """A stream that must still be at `version` although nothing is appended to it."""

    stream_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Events on one or more streams that are appended together or not at all.

    Each event's version says where its stream is expected to end. The command id makes it safe to send again. Raises
    `ValueError` without events.
    """

    command_id: UUID
    events: Sequence[NewEvent]
    guards: Sequence[Guard] = ()

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("A commit without events has nothing to append.")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The positions of the events. `repeated`: the command id was already in the ledger; nothing was appended now."""

    first_position: int
    last_position: int
    repeated: bool = False


class Conflict(Exception):
    """A stream or guard has moved on. Load and decide again."""

    code = "conflict"


def append_group(connection: Connection[TupleRow], commits: Sequence[Commit]) -> list[Receipt | Conflict]:
    """Append a group in the connection's open transaction, or in a new one; returns a verdict for each."""
    rows = connection.execute(SQL["append"], columns_of(commits), prepare=True, binary=True).fetchall()
    return [
        Conflict("Another commit was faster on one of these streams.")
        if verdict == "conflict"
        else Receipt(first, last, repeated=verdict == "repeated")
        for _, verdict, first, last in rows
    ]


def columns_of(commits: Sequence[Commit]) -> tuple[PackedArray, ...]:
    """The parallel arrays that `ledger_append` takes; commits are numbered from 1."""
    numbered = list(enumerate(commits, start=1))
    events = [(number, event) for number, commit in numbered for event in commit.events]
    guards = [(number, guard) for number, commit in numbered for guard in commit.guards]
    return (
        int4s([number for number, _ in events]),
        uuids([event.stream_id for _, event in events]),
        int8s([event.version for _, event in events]),
        texts([event.topic for _, event in events]),
        byteas([event.state for _, event in events]),
        uuids([commit.command_id for commit in commits]),
        int4s([number for number, _ in guards]),
        uuids([guard.stream_id for _, guard in guards]),
        int8s([guard.version for _, guard in guards]),
    )
