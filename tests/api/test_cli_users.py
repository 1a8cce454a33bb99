"""`darkroom users`: keys for the owners, directly on the database that the settings name."""

import json

import pytest

from api.cli import status_of
from services import users
from services.database import Database

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def named(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name the fresh database."""
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", dsn)


def key_of(database: Database, key: str) -> str | None:
    """The owner of a key that works."""
    with database.connection() as connection:
        return users.owners_of(connection, [users.fingerprint(key)]).get(users.fingerprint(key))


@pytest.mark.usefixtures("named")
def test_the_key_alone_goes_to_stdout_this_once(database: Database, capsys: Capture) -> None:
    assert status_of(["users", "add", "ada"]) == 0
    said = capsys.readouterr()
    (key,) = said.out.splitlines()
    assert key_of(database, key) == "ada"
    assert "ada is a user now" in said.err
    assert key not in said.err
    assert status_of(["users", "list"]) == 0
    assert status_of(["users", "list", "--json"]) == 0
    assert key[3:] not in capsys.readouterr().out


@pytest.mark.usefixtures("named")
def test_a_name_with_a_key_is_refused_until_it_is_revoked(database: Database, capsys: Capture) -> None:
    assert status_of(["users", "add", "ada"]) == 0
    old = capsys.readouterr().out.strip()
    assert status_of(["users", "add", "ada"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "darkroom: ada has an API key already, and it is shown once only; for a new one, "
        "run `darkroom users revoke ada` first.\n"
    )
    assert status_of(["users", "revoke", "ada"]) == 0
    assert capsys.readouterr().out == "The key of ada is revoked; what ada owns stays.\n"
    assert status_of(["users", "revoke", "ada"]) == 0
    assert capsys.readouterr().out.startswith("ada has had no key since 20")
    assert status_of(["users", "add", "ada"]) == 0
    said = capsys.readouterr()
    assert "ada has a new key, and everything as before" in said.err
    assert (key_of(database, old), key_of(database, said.out.strip())) == (None, "ada")


@pytest.mark.usefixtures("named")
def test_the_list_shows_names_and_times(capsys: Capture) -> None:
    assert status_of(["users", "list"]) == 0
    assert "darkroom users add NAME" in capsys.readouterr().out
    for arguments in (["add", "bob"], ["add", "ada"], ["revoke", "bob"]):
        assert status_of(["users", *arguments]) == 0
    capsys.readouterr()
    assert status_of(["users", "list", "--json"]) == 0
    ada, bob = json.loads(capsys.readouterr().out)
    assert [set(each) for each in (ada, bob)] == [{"name", "created", "revoked"}] * 2
    assert (ada["name"], ada["revoked"], bob["name"]) == ("ada", None, "bob")
    assert bob["revoked"] >= bob["created"]
    assert status_of(["users", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["ada", "bob"]


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["add", "admin"], 2, "darkroom: the name admin is the administrator's; choose another."),
        (["add", "Ada"], 2, "darkroom: 'Ada' is no name for a user"),
        (["revoke", "ada"], 1, "darkroom: there is no user 'ada'; `darkroom users list`"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], status: int, sentence: str, capsys: Capture) -> None:
    assert status_of(["users", *arguments]) == status
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert sentence in said.err


def test_a_database_without_the_schema_says_what_to_run(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", empty_dsn)
    for arguments in (["add", "ada"], ["list"], ["revoke", "ada"]):
        assert status_of(["users", *arguments]) == 1
        assert "run `darkroom migrate` first" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", "host=127.0.0.1 port=1 dbname=none")
    assert status_of(["users", "list"]) == 1
    assert capsys.readouterr().err == "darkroom: Postgres cannot be reached.\n"
