"""`darkroom restored`, and what else writes to the ledger from the command line, on a database that was put back."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from api.cli import status_of
from domain.commands import RateAsset
from domain.events import JobHandedOver
from services import users
from services.migrate import migrate
from tests.histories import Story
from tests.services.older_backup import Backup, backup_of, writing
from tests.services.restore.test_restored import finished, is_right, tell

Said = pytest.CaptureFixture[str]


@pytest.fixture
def lone_dsn(empty_dsn: str, nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database that may be dropped and made again, and the settings that name it and its NATS."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection)
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", empty_dsn)
    monkeypatch.setenv("DARKROOM_NATS_URL", nats_url)
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "data"))
    return empty_dsn


@pytest.fixture
def put_back(lone_dsn: str, nats_url: str) -> Iterator[Backup]:
    """Positions 1 … 5 are in the backup that was put back, and 1 … 10 in LEDGER. No service has looked yet."""
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(1))
        backup.restore()
        yield backup


@pytest.fixture
def darkroom(capsys: Said) -> Callable[..., str]:
    """The command: what it prints on stdout, or on stderr where it fails, once it has the status that is expected."""

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert status_of(list(arguments)) == status, capsys.readouterr()
        said = capsys.readouterr()
        assert "DARKROOM_LOG_LEVEL" not in said.err  # as an error that nobody foresaw has it
        return said.err if status else said.out

    return run


def head(dsn: str) -> int:
    with writing(dsn) as ledger:
        return ledger.head()


Darkroom = Callable[..., str]
NOTHING = "Nothing to do: the stream LEDGER holds what the ledger holds, and writes are not stopped.\n"


@pytest.mark.usefixtures("put_back")
def test_it_says_what_it_would_do_then_what_it_did_and_then_that_nothing_is_left(
    lone_dsn: str, nats_url: str, tmp_path: Path, darkroom: Darkroom
) -> None:
    lost = "Shared up to position 5; the ledger had lost 5 events and ends at 5."
    assert darkroom("restored", "--dry-run").splitlines() == [
        lost,
        "Would take all of them back, at the same positions.",
    ]
    assert head(lone_dsn) == 5
    assert not (tmp_path / "data" / "restored").exists()
    first, second, saved, files, last = darkroom("restored").splitlines()
    assert (first, second) == (lost, "Took all of them back, at the same positions.")
    (file,) = (tmp_path / "data" / "restored").glob("lost-6-10-*.jsonl.gz")
    assert saved == f"The lost events are in {file}."
    assert files.startswith("Files: 0 of lost events fit, 0 are named by nothing, 2 are missing; ")
    epoch = UUID(last.removeprefix("Writes go on, in epoch ").removesuffix("."))
    with writing(lone_dsn) as ledger:
        current = ledger.epochs().current
        assert (ledger.head(), current is not None and current.epoch == epoch) == (11, True)
    assert darkroom("restored") == NOTHING
    is_right(lone_dsn, nats_url)


@pytest.mark.usefixtures("put_back")
def test_as_json_it_is_the_report_that_lies_in_the_data_folder(tmp_path: Path, darkroom: Darkroom) -> None:
    would: dict[str, Any] = json.loads(darkroom("restored", "--dry-run", "--json"))
    assert (would["epoch"], would["how"], would["shared_position"], would["lost"]) == (None, "taken_back", 5, 5)
    done = json.loads(darkroom("restored", "--json"))
    assert done == would | {name: done[name] for name in ("epoch", "lost_events", "files_missing")}
    assert json.loads((tmp_path / "data" / "restored" / f"report-{done['epoch']}.json").read_text()) == done
    left: dict[str, Any] = json.loads(darkroom("restored", "--json"))
    assert (left["epoch"], left["how"], left["lost"]) == (None, None, 0)


def test_what_it_leaves_out_or_may_cost_money_is_named(
    lone_dsn: str, nats_url: str, darkroom: Darkroom, tmp_path: Path
) -> None:
    both: list[UUID] = []
    tell(lone_dsn, nats_url, lambda story: both.append(story.finished(1)))
    with psycopg.connect(lone_dsn, autocommit=True) as connection:
        users.add(connection, "ada")

    def lose(story: Story) -> None:
        story.curate(both[0], 0, RateAsset(2, datetime.now(UTC)))
        job = story.submit(1)
        story.append(job, "ada", JobHandedOver(attempt=1, index=0, provider="replicate", provider_id="r-77"))
        both.append(job)

    with backup_of(lone_dsn) as backup:
        with psycopg.connect(lone_dsn, autocommit=True) as connection:
            users.revoke(connection, "ada")
            users.add(connection, "bob")
        tell(lone_dsn, nats_url, lose)
        backup.restore()
        tell(
            lone_dsn,
            nats_url,
            lambda story: story.curate(both[0], 0, RateAsset(5, datetime.now(UTC))),
            published=False,
        )
        keys = ["Keys added since the backup: bob.", "Keys revoked since the backup: ada."]
        said = darkroom("restored", "--dry-run").splitlines()
        assert said[1:] == ["Would append 5 of them again; 1 are left out.", *keys]
        order = f"May be paid twice: order r-77 at replicate, output 0 of job {both[1]}."
        said = darkroom("restored", "--dry-run", "--discard").splitlines()
        assert said[1:] == ["Would append 2 of them again; 4 are left out.", *keys, order]
        said = darkroom("restored", "--discard").splitlines()
        assert said[1:5] == ["Appended 2 of them again; 4 are left out.", *keys, order]
        (report,) = (tmp_path / "data" / "restored").glob("report-*.json")
        left_out = [one["type"] for one in json.loads(report.read_text())["left_out"]]
        assert left_out == ["asset.rated.v1", "job.queued.v1", "asset.reserved.v1", "job.handed_over.v1"]
    is_right(lone_dsn, nats_url)


def test_an_epoch_is_begun_without_a_difference_only_when_it_is_declared(
    lone_dsn: str, nats_url: str, darkroom: Darkroom
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    assert darkroom("restored") == NOTHING
    assert darkroom("restored", "--dry-run", "--declare").splitlines() == [
        "Shared up to position 5; the ledger had lost 0 events and ends at 5."
    ]
    assert head(lone_dsn) == 5
    assert darkroom("restored", "--declare").splitlines()[-1].startswith("Writes go on, in epoch ")
    assert head(lone_dsn) == 6
    is_right(lone_dsn, nats_url)


# Wrong input, and places where it cannot work.


@pytest.mark.parametrize("arguments", [["--all"], ["--discard=yes"], ["ledger"], ["--data-dir"]], ids=" ".join)
@pytest.mark.usefixtures("put_back")
def test_wrong_options_change_nothing(lone_dsn: str, darkroom: Darkroom, arguments: list[str]) -> None:
    assert darkroom("restored", *arguments, status=2).startswith("darkroom: ")
    assert head(lone_dsn) == 5


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("DARKROOM_NATS_URL", "nats://127.0.0.1:1", 1, "NATS cannot be reached"),
        ("DARKROOM_NATS_URL", "no url", 2, "DARKROOM_NATS_URL"),
        ("DARKROOM_NATS_URL", None, 1, "DARKROOM_NATS_URL"),
        ("DARKROOM_POSTGRES_DSN", "no connection string", 2, "DARKROOM_POSTGRES_DSN"),
        ("DARKROOM_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:1/postgres", 1, "Postgres cannot be reached"),
        ("DARKROOM_BLOBS_URL", "ftp://somewhere", 1, "DARKROOM_BLOBS_URL"),
    ],
)
def test_a_server_that_is_away_or_wrongly_named_is_said_in_a_sentence(
    lone_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    darkroom: Darkroom,
    name: str,
    value: str | None,
    status: int,
    words: str,
) -> None:
    with monkeypatch.context() as changed:
        changed.delenv(name, raising=False)
        if value is not None:
            changed.setenv(name, value)
        for options in ([], ["--dry-run"]):
            said = darkroom("restored", *options, status=status)
            assert said.startswith("darkroom: ")
            assert words in said
            assert len(said.splitlines()) == 1
    assert head(lone_dsn) == 5


def test_a_database_that_is_not_darkroom_s_says_what_to_run(
    empty_dsn: str, nats_url: str, monkeypatch: pytest.MonkeyPatch, darkroom: Darkroom
) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", empty_dsn)
    monkeypatch.setenv("DARKROOM_NATS_URL", nats_url)
    for options in ([], ["--dry-run"], ["--declare"]):
        assert "run `darkroom migrate` first" in darkroom("restored", *options, status=1)


@pytest.mark.usefixtures("put_back")
def test_a_user_who_does_not_own_the_ledger_learns_whose_rights_it_takes(
    lone_dsn: str, monkeypatch: pytest.MonkeyPatch, darkroom: Darkroom
) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", make_conninfo(lone_dsn, user="darkroom_writer"))
    said = darkroom("restored", status=1)
    assert "who owns the table ledger" in said
    assert "darkroom_writer" in said
    assert head(lone_dsn) == 5
    assert "Would take all" in darkroom("restored", "--dry-run")  # reading is enough


@pytest.mark.usefixtures("put_back")
def test_a_data_folder_that_takes_no_file_stops_it_before_anything_is_changed(
    lone_dsn: str, tmp_path: Path, darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_text("a file")
    assert "object store" in darkroom("restored", status=1)  # which is in it
    monkeypatch.setenv("DARKROOM_BLOBS_URL", (tmp_path / "blobs").as_uri())
    assert "The lost events cannot be saved" in darkroom("restored", status=1)
    assert head(lone_dsn) == 5


# What else writes.


@pytest.mark.parametrize("noticed", [False, True], ids=["nobody has noticed", "writes are stopped"])
@pytest.mark.usefixtures("put_back")
def test_users_and_import_refuse_a_ledger_that_was_put_back(
    lone_dsn: str, nats_url: str, tmp_path: Path, darkroom: Darkroom, *, noticed: bool
) -> None:
    """What they appended would keep the lost events from being taken back."""
    with psycopg.connect(lone_dsn, autocommit=True) as connection:
        if noticed:
            connection.execute("select ledger_stop('Somebody noticed. Run `darkroom restored`.')")
        for arguments in (
            ["users", "add", "ada"],
            ["users", "revoke", "ada"],
            ["users", "revoke", "ada", "--cancel-jobs"],
            ["import", str(tmp_path / "everything")],  # it is not even opened
        ):
            assert "run `darkroom restored`" in darkroom(*arguments, status=1).replace("Run", "run"), arguments
        assert connection.execute("select count(*) from api_keys").fetchone() == (0,)
        assert connection.execute("select reason from ledger_stopped").fetchone() is not None  # for every process
    assert head(lone_dsn) == 5
    assert "Took all of them back" in darkroom("restored")
    assert darkroom("users", "add", "ada").startswith("dk_")
    is_right(lone_dsn, nats_url)


def test_without_nats_a_key_can_be_revoked_and_nothing_else_is_written(
    lone_dsn: str, monkeypatch: pytest.MonkeyPatch, darkroom: Darkroom, capsys: Said
) -> None:
    darkroom("users", "add", "ada")
    monkeypatch.setenv("DARKROOM_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setattr("services.restore.comparing.COMMAND_S_MAX", 1.0)
    before = head(lone_dsn)
    assert "NATS cannot be reached" in darkroom("users", "add", "bob", status=1)
    assert head(lone_dsn) == before
    assert status_of(["users", "revoke", "ada"]) == 0
    said = capsys.readouterr()
    assert "The key of ada is revoked" in said.out
    assert "it was not checked" in said.err
    monkeypatch.delenv("DARKROOM_NATS_URL")  # only a database is named: there is nothing to compare it with
    assert darkroom("users", "add", "bob").startswith("dk_")
