"""`darkroom verify`, `rebuild` and `migrate` on a database that the settings name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from api.cli import status_of
from api.cli.local import operate
from projections import ALL
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import JOB, Context, Ledger
from services.migrate import all_migrations
from services.settings import SettingsError
from services.views.projector import Projector
from tests.spec import OWNER, report_completed, start, submit

Darkroom = Callable[..., str]


@pytest.fixture
def darkroom(dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Darkroom:
    """The command on this database: what it prints, once it has the status that is expected."""
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", dsn)

    def run(*arguments: str, status: int = 0) -> str:
        assert status_of(list(arguments)) == status
        return capsys.readouterr().out

    return run


@pytest.fixture
def submitted(ledger: Ledger) -> None:
    """A ledger with two jobs of three assets each: positions 1 … 8."""
    for _ in range(2):
        job_id = uuid4()
        ledger.execute(JOB, job_id, submit(job_id=job_id), Context(actor="alice"))


HASHED_OTHERWISE = "the hash of positions 9 to 12 is not the one recorded when they were committed"
SWAPPED = (
    "update ledger set notification_id = 99 where notification_id = 10",
    "update ledger set notification_id = 10 where notification_id = 11",
    "update ledger set notification_id = 11 where notification_id = 99",
)


@pytest.mark.parametrize(
    ("statements", "position", "reason"),
    [
        (["update ledger set state = set_byte(state, 9, 0) where notification_id = 10"], 9, HASHED_OTHERWISE),
        (["delete from ledger where notification_id = 10"], 10, "the event at this position is missing"),
        (SWAPPED, 9, HASHED_OTHERWISE),
        (["update ledger_commits set hash = sha256('forged') where last_position = 12"], 9, HASHED_OTHERWISE),
        (
            [
                "update ledger set state = set_byte(state, 9, 0) where notification_id = 10",
                "update ledger_commits c set hash = ledger_link(p.hash, 9, 12) from ledger_commits p"
                " where c.last_position = 12 and p.last_position = 8",
            ],
            13,
            "the hash of positions 13 to 16 is not the one recorded when they were committed",
        ),
        (
            ["insert into ledger_commits (last_position, first_position, hash) values (20, 17, sha256('forged'))"],
            17,
            "the event at this position is missing",
        ),
        (["delete from ledger_commits where last_position = 12"], 9, "no commit covers this position"),
    ],
    ids=["changed byte", "removed event", "reordered pair", "forged hash", "forged link", "forged row", "removed row"],
)
def test_verify_names_the_position_that_does_not_fit(
    dsn: str, ledger: Ledger, darkroom: Darkroom, statements: list[str], position: int, reason: str
) -> None:
    for _ in range(4):  # a job of three assets each, each a group commit of its own
        job_id = uuid4()
        ledger.execute(JOB, job_id, submit(job_id=job_id), Context(actor="alice"))
    assert darkroom("verify").startswith("ledger: fits; 16 events in 4 commits; head ")
    with psycopg.connect(dsn) as connection:
        connection.execute("set session_replication_role = replica")  # the ledger refuses changes
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
    first, *views = darkroom("verify", status=1).splitlines()
    assert first == f"ledger: does not fit at position {position}: {reason}"
    assert [line.partition(": ")[0] for line in views] == [view.name for view in ALL]


@pytest.mark.usefixtures("submitted")
def test_a_view_that_was_changed_is_named_and_a_rebuild_repairs_it(
    dsn: str, database: Database, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    Projector(database, ledger, ALL).step()
    assert operate.verify(dsn) == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("update views.jobs set priority = 9")
    assert operate.verify(dsn) == 1
    assert "jobs: does not fit, repair it with: darkroom rebuild jobs" in capsys.readouterr().out
    assert operate.rebuild(dsn, "jobs", None) == 0
    assert "which differs from before" in capsys.readouterr().out
    assert operate.verify(dsn) == 0


def test_migrate_builds_the_schema_once(empty_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert operate.migrate(empty_dsn) == 0
    names = [migration.name for migration in all_migrations()]
    assert capsys.readouterr().out.splitlines() == [f"applied {name}" for name in names]
    assert operate.migrate(empty_dsn) == 0
    assert capsys.readouterr().out == "The schema is up to date.\n"


def test_a_database_without_the_schema_says_what_to_run(empty_dsn: str) -> None:
    with pytest.raises(operate.NoDatabase, match="darkroom migrate"):
        operate.verify(empty_dsn)


def test_a_dsn_that_is_invalid_is_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", "no connection string")
    with pytest.raises(SettingsError, match="DARKROOM_POSTGRES_DSN"):
        operate.find_dsn(None)


@pytest.mark.usefixtures("submitted")
def test_lists_as_of_a_position_hold_what_there_was_then(
    database: Database, ledger: Ledger, darkroom: Darkroom
) -> None:
    Projector(database, ledger, ALL).step()
    for position, jobs in ((0, 0), (4, 1), (8, 2)):
        listed = json.loads(darkroom("jobs", "--as-of", str(position), "--owner", OWNER, "--json"))
        assert [len(job["assets"]) for job in listed] == [3] * jobs
    assert json.loads(darkroom("jobs", "--as-of", "8", "--json")) == []  # the administrator's
    first, *rows = darkroom("jobs", "--as-of", "4", "--owner", OWNER).splitlines()
    assert (first.split()[:2], len(rows)) == (["ID", "STATUS"], 1)
    assert json.loads(darkroom("library", "--as-of", "8", "--owner", OWNER, "--json")) == []
    darkroom("library", "--as-of", "9", status=1)
    darkroom("library", "--as-of", "8", "--saved", status=2)
    assert operate.verify(operate.find_dsn(None)) == 0


def test_verify_reads_the_files_and_names_the_missing_and_the_damaged(
    darkroom: Darkroom, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path.as_uri())
    monkeypatch.setenv("DARKROOM_BLOBS_URL", tmp_path.as_uri())
    job_id = uuid4()
    ledger.execute(JOB, job_id, submit(job_id=job_id), Context(actor="alice"))
    ledger.execute(JOB, job_id, start(1), Context(actor="worker"))
    paths = [asset.reservation.path for asset in ledger.generation(job_id).assets]
    for index, path in enumerate(paths):
        blobs.put_once(path, f"output {index}".encode())
        told = report_completed(index)
        completed = told.completed.model_copy(update={"sha256": blobs.describe(path).sha256})
        ledger.execute(JOB, job_id, replace(told, completed=completed), Context(actor="worker"))
    assert "files: fit; 3 are intact, 24 bytes" in darkroom("verify", "--files")
    assert "files" not in darkroom("verify")
    (tmp_path / paths[0]).unlink()
    (tmp_path / paths[1]).write_bytes(b"output X")
    said = darkroom("verify", "--files", status=1)
    assert f"files: {paths[0]} is missing" in said
    assert f"files: {paths[1]} is damaged" in said
    assert "files: do not fit" in said
    assert "1 are intact" in said
