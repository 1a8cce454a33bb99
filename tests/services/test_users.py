"""Users and their keys, in the database: one key at a time, shown once, kept as a hash."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from projections import ALL
from services import users
from services.database import Database
from services.ledger import Ledger
from services.users import NameInvalid, UserExists, UserUnknown
from services.views.rebuild import rebuild


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection[TupleRow]]:
    """A connection to the fresh database."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def test_a_key_is_nowhere_but_in_the_answer(connection: Connection[TupleRow]) -> None:
    made = users.add(connection, "ada")
    assert made.key.startswith("dk_")
    assert users.is_key(made.key)
    assert len(made.key) == 3 + 43  # 256 bits in base64
    (row,) = connection.execute("select k, k.sha256 from api_keys k").fetchall()
    assert made.key[3:] not in str(row)
    assert row[1] == hashlib.sha256(made.key.encode()).digest()
    assert users.owners_of(connection, [row[1], b"x" * 32]) == {row[1]: "ada"}


def test_a_name_has_one_key_at_a_time(connection: Connection[TupleRow]) -> None:
    first = users.add(connection, "ada")
    with pytest.raises(UserExists, match="darkroom users revoke ada"):
        users.add(connection, "ada")
    users.revoke(connection, "ada")
    second = users.add(connection, "ada")
    assert (first.again, second.again) == (False, True)
    prints = [users.fingerprint(key.key) for key in (first, second)]
    assert users.owners_of(connection, prints) == {prints[1]: "ada"}


def test_of_several_at_once_one_gets_the_key(dsn: str) -> None:
    def add(_: int) -> bool:
        with psycopg.connect(dsn, autocommit=True) as opened:
            try:
                return bool(users.add(opened, "ada").key)
            except UserExists:
                return False

    with ThreadPoolExecutor(max_workers=6) as pool:
        assert sorted(pool.map(add, range(6))) == [False] * 5 + [True]


def test_revoking_is_safe_to_repeat_and_ends_nobody_elses_key(connection: Connection[TupleRow]) -> None:
    kept = users.fingerprint(users.add(connection, "bob").key)
    gone = users.fingerprint(users.add(connection, "ada").key)
    first = users.revoke(connection, "ada")
    again = users.revoke(connection, "ada")
    assert (first.already, again.already) == (False, True)
    assert again.at == first.at
    assert users.owners_of(connection, [kept, gone]) == {kept: "bob"}
    with pytest.raises(UserUnknown, match="'carl'"):
        users.revoke(connection, "carl")


def test_the_list_has_everybody_once_with_the_latest_key(connection: Connection[TupleRow]) -> None:
    for name in ("bob", "ada", "carl"):
        users.add(connection, name)
    for name in ("ada", "carl"):
        users.revoke(connection, name)
    users.add(connection, "ada")
    users.revoke(connection, "ada")
    users.add(connection, "ada")
    listed = users.list_users(connection)
    assert [(user.owner, user.revoked_at is None) for user in listed] == [("ada", True), ("bob", True), ("carl", False)]
    assert listed[0].created_at > listed[1].created_at


@pytest.mark.parametrize("name", ["ada", "0", "a-b_c", "a" * 63])
def test_names_that_are_taken(connection: Connection[TupleRow], name: str) -> None:
    users.add(connection, name)


@pytest.mark.parametrize(
    "name",
    ["", "admin", "Ada", "-a", "_a", "a" * 64, "a b", "a.b", "a/b", "a*", "ä", "ada\n", "\u0663"],
)
def test_names_that_are_refused(connection: Connection[TupleRow], name: str) -> None:
    with pytest.raises(NameInvalid):
        users.add(connection, name)
    with pytest.raises(psycopg.errors.CheckViolation):  # and again by the database
        connection.execute(
            "insert into api_keys (owner, sha256) values (%s, %s)", (name, users.fingerprint("whatever"))
        )


@pytest.mark.parametrize("text", ["", "dk_", "dk_" + "a" * 42, "dk_" + "a" * 44, "dk_" + "é" * 43, "x" * 46])
def test_a_text_that_is_no_key_is_refused_without_the_database(text: str) -> None:
    assert not users.is_key(text)


def test_no_rebuild_brings_a_revoked_key_back(
    connection: Connection[TupleRow], database: Database, ledger: Ledger
) -> None:
    gone = users.fingerprint(users.add(connection, "ada").key)
    users.revoke(connection, "ada")
    for view in ALL:
        rebuild(database, ledger, view)
    assert users.owners_of(connection, [gone]) == {}
