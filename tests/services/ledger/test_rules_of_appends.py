"""Two rules of an append have several copies, for speed: the same commits get the same answers from each.

migrations/README.md names the copies. `ledger_append` uses one for a single event, one for a whole group, and one for
each commit of a group in which something conflicts. A guard that holds excludes the first, a conflict the second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from services.database import Database
from services.ledger import InMemoryRecorder
from services.ledger.commits import SQL as COMMITS
from services.ledger.commits import Commit, Guard, Receipt, columns_of
from services.ledger.verification import GENESIS, link_of
from services.ledger.verification import SQL as VERIFICATION
from tests.services.commits import commit, event, opening, verdict

Versions = Sequence[tuple[str, int]]
"""Versions of events, or of guards, each on one of the streams `known` (with two events) and `new` (without one)."""

FITS = """
select ledger_commit_fits(1, %b::int[], %b::uuid[], %b::bigint[], %b::int[], %b::uuid[], %b::bigint[])
"""


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[TupleRow]]:
    """A connection of our own, to speak to the functions directly."""
    with database.connection() as checked_out:
        yield checked_out


def ways_of(asked: Commit) -> dict[str, list[Commit]]:
    """Groups that append this commit and nothing else, each judged by another copy of the rules."""
    holds = Guard(uuid4(), 0)
    conflicts = commit(event(uuid4(), 9))
    return {
        "alone": [asked],
        "as a group": [replace(asked, guards=[*asked.guards, holds])],
        "one by one": [asked, conflicts],
    }


def appended(connection: Connection[TupleRow], group: Sequence[Commit]) -> list[TupleRow]:
    """The answers to a group."""
    return connection.execute(COMMITS["append"], columns_of(group), binary=True).fetchall()


@pytest.mark.parametrize(
    ("events", "guards", "fits"),
    [
        ([("known", 3)], [], True),
        ([("known", 3), ("known", 4)], [], True),
        ([("known", 2)], [], False),
        ([("known", 4)], [], False),
        ([("known", 0)], [], False),
        ([("known", 3), ("known", 3)], [], False),
        ([("known", 4), ("known", 3)], [], False),
        ([("known", 3), ("known", 5)], [], False),
        ([("new", 1)], [], True),
        ([("new", 0)], [], True),
        ([("new", 0), ("new", 1)], [], True),
        ([("new", 2)], [], False),
        ([("new", 1), ("known", 3), ("new", 2)], [], True),
        ([("new", 1), ("known", 2)], [], False),
        ([("new", 1)], [("known", 2)], True),
        ([("new", 1)], [("known", 1)], False),
        ([("new", 1)], [("known", 3)], False),
        ([("known", 3)], [("new", 0)], True),
        ([("known", 3)], [("known", 2)], True),
        ([("known", 3)], [("known", 3)], False),
        ([("known", 3)], [("new", 0), ("known", 1)], False),
    ],
)
def test_each_copy_of_the_conflict_rule_gives_the_same_verdict(
    connection: Connection[TupleRow], events: Versions, guards: Versions, fits: bool
) -> None:
    streams = {"known": uuid4(), "new": uuid4()}
    past = opening(streams["known"], events=2)
    asked = commit(
        *(event(streams[name], version) for name, version in events),
        guards=[Guard(streams[name], version) for name, version in guards],
    )
    memory = InMemoryRecorder()
    memory.write(past)
    appended(connection, [past])
    columns = columns_of([asked])
    verdicts: dict[str, object] = {
        "by itself": connection.execute(FITS, (*columns[:3], *columns[6:]), binary=True).fetchone(),
        "in memory": (isinstance(verdict(memory.append(asked)), Receipt),),
    }
    for way, group in ways_of(asked).items():
        with connection.transaction(force_rollback=True):
            verdicts[way] = (appended(connection, group)[0][1] == "appended",)
    assert verdicts == dict.fromkeys(verdicts, (fits,))


def test_each_copy_of_the_chain_link_gives_the_same_hash(connection: Connection[TupleRow]) -> None:
    appended(connection, [opening(events=2)])
    asked = commit(replace(event(uuid4(), 1, state='{"prompt": "fög"}'.encode()), topic="prüfung.v1"))
    links = {}
    for way, group in ways_of(asked).items():
        with connection.transaction(force_rollback=True):
            appended(connection, group)
            [before, (first, last, link)] = connection.execute(VERIFICATION["links"], (0, 9), binary=True).fetchall()
            by_function = connection.execute("select ledger_link(%s, %s, %s)", (before[2], first, last)).fetchone()
            rows = connection.execute(VERIFICATION["events"], (first, last), binary=True).fetchall()
            links |= {way: link, f"{way}, by the function": by_function and by_function[0]}
            links |= {f"{way}, in Python": link_of(before[2], rows)}
    assert len(links) == 9
    assert len(set(links.values())) == 1


def test_the_chain_begins_with_the_same_hash(connection: Connection[TupleRow]) -> None:
    appended(connection, [opening()])
    [(first, last, link)] = connection.execute(VERIFICATION["links"], (0, 9), binary=True).fetchall()
    rows = connection.execute(VERIFICATION["events"], (first, last), binary=True).fetchall()
    assert link == link_of(GENESIS, rows)
