"""`darkroom users`: keys for the owners, directly on the database that the settings name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from api.cli import status_of
from api.cli.local import operate, user_keys
from domain.aggregates.job import status_of as status_of_job
from domain.commands import CancelJob
from services import users
from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.queue import unfinished
from tests.histories import Story, Views, append_raw
from tests.spec import start

Capture = pytest.CaptureFixture[str]

REVOKED = "The key of ada is revoked; what ada owns stays."


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
    said = capsys.readouterr().out
    assert said == "The key of ada is revoked; what ada owns stays.\nNo job of ada waits or runs.\n"
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


@dataclass
class TwoUsers:
    """Jobs of ada and of bob: two that wait, one that runs and one that has ended, each."""

    waiting: list[UUID]
    running: UUID
    ended: UUID
    of_bob: list[UUID]


def submitted(story: Story) -> TwoUsers:
    """The jobs of both, in a ledger without them."""
    jobs = {
        owner: (
            [story.submit(2, owner=owner), story.submit(1, owner=owner)],
            story.submit(1, owner=owner),
            story.finished(owner=owner),
        )
        for owner in ("ada", "bob")
    }
    for _, running, _ in jobs.values():
        story.tell(running, start(1))
    waiting, running, ended = jobs["bob"]
    return TwoUsers(*jobs["ada"], [*waiting, running, ended])


def with_ledger(dsn: str, told: Callable[[Story, Ledger, Database], object]) -> None:
    """Tell the ledger a story, as programs next to the command do."""
    with operate.opened(dsn, writes=True) as (database, ledger):
        told(Story(ledger, lambda: datetime.now(UTC)), ledger, database)


def statuses(dsn: str, jobs: list[UUID]) -> list[str]:
    """What the ledger says of jobs."""
    with operate.opened(dsn) as (_, ledger):
        return [status_of_job(ledger.generation(job).job) for job in jobs]


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has used the key: it need not be waited for until every API has forgotten it."""
    monkeypatch.setattr(user_keys, "KNOWN_S", 0.0)


SEEN_BY_VIEWS = ("all", "first", "none")
"""How much of the ledger the views have read when the command runs."""


def two_users(dsn: str, seen: str) -> TwoUsers:
    """Users with keys, and jobs that the views know as far as `seen` says."""
    for owner in ("ada", "bob"):
        assert status_of(["users", "add", owner]) == 0
    made: list[TwoUsers] = []

    def tell(story: Story, ledger: Ledger, database: Database) -> None:
        if seen == "first":
            story.submit(1, owner="carl")
            Views(database, ledger).catch_up()
        made.append(submitted(story))
        if seen == "all":
            Views(database, ledger).catch_up()

    with_ledger(dsn, tell)
    return made[0]


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("seen", SEEN_BY_VIEWS)
def test_revoking_keeps_jobs_and_says_how_to_cancel_them(dsn: str, seen: str, capsys: Capture) -> None:
    jobs = two_users(dsn, seen)
    capsys.readouterr()
    assert status_of(["users", "revoke", "ada"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        REVOKED,
        "Jobs of ada: 2 waiting, 1 running. They are kept and go on; to cancel them, run:",
        "  darkroom users revoke ada --cancel-jobs",
    ]
    assert statuses(dsn, [*jobs.waiting, jobs.running, jobs.ended]) == ["queued", "queued", "processing", "succeeded"]


@pytest.mark.usefixtures("named", "no_wait")
@pytest.mark.parametrize("page", [1, 500])
@pytest.mark.parametrize("seen", SEEN_BY_VIEWS)
def test_revoking_cancels_the_jobs_of_that_user_alone(
    dsn: str, seen: str, page: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "PAGE_JOBS", page)
    monkeypatch.setattr(unfinished, "STRIDE", page)
    jobs = two_users(dsn, seen)
    before = statuses(dsn, jobs.of_bob)
    capsys.readouterr()
    assert status_of(["users", "revoke", "ada", "--cancel-jobs"]) == 0
    said = "Jobs of ada: {} waiting, now canceled; 1 running, whose workers are asked to stop."
    assert capsys.readouterr().out.splitlines() == [REVOKED, said.format(2)]
    assert statuses(dsn, jobs.waiting) == ["canceled", "canceled"]
    with operate.opened(dsn) as (_, ledger):
        asked = ledger.stream(jobs.running)[-1]
        head = ledger.head()
        assert (asked.name, asked.envelope.actor) == ("job.cancel_requested", "admin")  # type: ignore[union-attr]
        assert ledger.stream(jobs.waiting[0])[-1].envelope.actor == "admin"  # type: ignore[union-attr]
    assert statuses(dsn, [jobs.ended]) == ["succeeded"]
    assert statuses(dsn, jobs.of_bob) == before == ["queued", "queued", "processing", "succeeded"]
    # Again, it changes nothing.
    assert status_of(["users", "revoke", "ada", "--cancel-jobs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == said.format(0)
    with operate.opened(dsn) as (_, ledger):
        assert ledger.head() == head


@pytest.mark.usefixtures("named", "no_wait")
def test_jobs_that_were_kept_are_canceled_later_by_the_command_that_was_printed(dsn: str, capsys: Capture) -> None:
    jobs = two_users(dsn, "all")
    assert status_of(["users", "revoke", "ada", "--keep-jobs"]) == 0
    printed = capsys.readouterr().out.splitlines()[-1].split()
    assert status_of(printed[1:]) == 0
    assert statuses(dsn, jobs.waiting) == ["canceled", "canceled"]
    assert status_of(["users", "revoke", "carl", "--cancel-jobs"]) == 1
    assert "there is no user 'carl'" in capsys.readouterr().err


@pytest.mark.usefixtures("named")
def test_a_job_that_a_remembered_key_still_lets_in_is_canceled_too(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert status_of(["users", "add", "ada"]) == 0
    late: list[UUID] = []
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        with_ledger(dsn, lambda story, _, __: late.append(story.submit(1, owner="ada")))

    monkeypatch.setattr(user_keys, "time", SimpleNamespace(sleep=sleep))
    assert status_of(["users", "revoke", "ada", "--cancel-jobs"]) == 0
    assert (waits, statuses(dsn, late)) == ([user_keys.KNOWN_S], ["canceled"])


@pytest.mark.usefixtures("named", "no_wait")
def test_a_job_that_cannot_be_read_is_named_and_the_others_are_canceled(dsn: str, capsys: Capture) -> None:
    jobs = two_users(dsn, "all")
    unreadable, other = jobs.waiting

    def spoil(_: Story, ledger: Ledger, __: Database) -> None:
        version = len(ledger.stream(unreadable)) + 1
        append_raw(cast("PostgresRecorder", ledger.recorder), unreadable, version, "job.paused.v9", b"{}")

    with_ledger(dsn, spoil)
    capsys.readouterr()
    assert status_of(["users", "revoke", "ada", "--cancel-jobs"]) == 1
    said = capsys.readouterr()
    assert "Jobs of ada: 1 waiting, now canceled; 1 running" in said.out
    assert said.err.startswith(f"Job {unreadable} could not be canceled: ")
    assert statuses(dsn, [other]) == ["canceled"]


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("seen", SEEN_BY_VIEWS)
def test_a_job_that_was_asked_to_stop_is_not_said_to_go_on(dsn: str, seen: str, capsys: Capture) -> None:
    jobs = two_users(dsn, seen)
    with_ledger(dsn, lambda story, _, __: story.tell(jobs.running, CancelJob(datetime.now(UTC))))
    capsys.readouterr()
    assert status_of(["users", "revoke", "ada"]) == 0
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "Jobs of ada: 1 running, whose workers are asked to stop.",
        "Jobs of ada: 2 waiting, 0 running. They are kept and go on; to cancel them, run:",
    ]


@pytest.mark.usefixtures("named")
def test_the_commands_that_are_printed_are_called_as_this_one_was(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    program = tmp_path / "darkroom"
    program.touch(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    assert status_of(["users", "list"]) == 0
    assert capsys.readouterr().out.endswith(f"Add one: {program} users add NAME\n")
    assert status_of(["users", "add", "ada"]) == 0
    assert f"`{program} sign-in`" in capsys.readouterr().err
