"""`darkroom verify`, `rebuild` and `migrate` on a database that the settings name."""

from uuid import uuid4

import psycopg
import pytest

from api.cli import operate
from projections import ALL
from services.database import Database
from services.ledger import Context, Ledger
from services.migrate import all_migrations
from services.projector import Projector
from services.settings import SettingsError
from tests.spec import submit


@pytest.fixture
def submitted(ledger: Ledger) -> None:
    """A ledger with two jobs of three assets each: positions 1 … 8."""
    for _ in range(2):
        job_id = uuid4()
        ledger.execute(job_id, submit(job_id=job_id), Context(actor="alice"))


@pytest.mark.usefixtures("submitted")
def test_a_ledger_that_was_changed_names_the_position_with_status_1(
    dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert operate.verify(dsn) == 0
    assert "ledger: fits; 8 events in 2 commits" in capsys.readouterr().out
    with psycopg.connect(dsn) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update ledger set notification_id = 100 where notification_id = 6")
    assert operate.verify(dsn) == 1
    assert "ledger: does not fit at position 6: the event at this position is missing" in capsys.readouterr().out


@pytest.mark.usefixtures("submitted")
def test_a_view_that_was_changed_is_named_and_a_rebuild_mends_it(
    dsn: str, database: Database, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    Projector(database, ledger, ALL).step()
    assert operate.verify(dsn) == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("update views.jobs set priority = 9")
    assert operate.verify(dsn) == 1
    assert "jobs: does not fit, mend it with: darkroom rebuild jobs" in capsys.readouterr().out
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


def test_a_dsn_that_is_none_is_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", "no connection string")
    with pytest.raises(SettingsError, match="DARKROOM_POSTGRES_DSN"):
        operate.find_dsn(None)
