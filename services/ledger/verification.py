"""Prove that nothing was changed: recompute the ledger's hash chain, and every view from the ledger."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load
from services.database import Database

SQL = load("verification.sql", "services.ledger")

GENESIS: Final = bytes(32)
"""The hash before the first link."""

COMMITS_MAX: Final = 1_000
"""Number of links read at a time."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """The first position at which the ledger does not match its chain."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """How much of the ledger was recomputed, and the first mismatch. `head` is the chain's last hash, in hex."""

    events: int
    commits: int
    head: str
    misfit: Misfit | None


def verify_chain(database: Database) -> Verified:
    """Recompute the chain from the first event to the last, in one snapshot."""
    with database.connection() as connection, connection.transaction():
        connection.execute(SQL["snapshot"])
        return _verify(connection)


def _verify(connection: Connection[TupleRow]) -> Verified:
    events, commits, previous = 0, 0, GENESIS
    expected = 1
    for first, last, stored in _links(connection):
        if first != expected:
            return Verified(events, commits, previous.hex(), Misfit(expected, "no commit covers this position"))
        rows = connection.execute(SQL["events"], (first, last), binary=True).fetchall()
        gap = _first_gap((row[0] for row in rows), first, last)
        if gap is not None:
            return Verified(events, commits, previous.hex(), Misfit(gap, "the event at this position is missing"))
        link = link_of(previous, rows)
        if link != stored:
            reason = f"the hash of positions {first} to {last} is not the one recorded when they were committed"
            return Verified(events, commits, previous.hex(), Misfit(first, reason))
        events, commits, previous, expected = events + len(rows), commits + 1, link, last + 1
    row = connection.execute(SQL["head"]).fetchone()
    misfit = Misfit(expected, "events after this position belong to no commit") if row and row[0] >= expected else None
    return Verified(events, commits, previous.hex(), misfit)


def link_of(previous: bytes, rows: Iterable[TupleRow]) -> bytes:
    """The link that `ledger_append` computes, from the previous hash and fixed-length event fields.

    A copy, so that `darkroom verify` does not believe the database; migrations/README.md names all copies.
    """
    parts = [previous]
    for position, stream, version, topic, state in rows:
        parts += (
            position.to_bytes(8, "big"),
            stream.bytes,
            version.to_bytes(8, "big"),
            hashlib.sha256(topic.encode()).digest(),
            hashlib.sha256(state).digest(),
        )
    return hashlib.sha256(b"".join(parts)).digest()


def _links(connection: Connection[TupleRow]) -> Iterator[tuple[int, int, bytes]]:
    after = 0
    while rows := connection.execute(SQL["links"], (after, COMMITS_MAX), binary=True).fetchall():
        for first, last, stored in rows:
            yield first, last, bytes(stored)
        after = rows[-1][1]


def _first_gap(positions: Iterable[int], first: int, last: int) -> int | None:
    expected = first
    for position in positions:
        if position != expected:
            return expected
        expected += 1
    return None if expected > last else expected
