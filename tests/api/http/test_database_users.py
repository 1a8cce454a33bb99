"""Postgres as others run it: who migrates is no superuser, and the API has a login of its own, or none."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from api.run import views_dsn
from projections import ALL
from services.database import Database
from services.embedded import EmbeddedServers
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.migrate import MigrationRefused, all_migrations, migrate
from services.settings import Settings, SettingsError
from services.views.owned_views import OwnedViews, logging_in_as_role, why_unfit
from services.views.projector import Projector
from services.views.rebuild import rebuild
from tests.api.cli.test_cli import darkroom
from tests.api.serving import TOKEN
from tests.histories import Story
from tests.spec import NOW


@pytest.fixture
def bare_dsn() -> Iterator[str]:
    """A server that never heard of Darkroom: it has no role of it."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    try:
        with EmbeddedServers(folder) as servers:
            yield servers.postgres_dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def database_of(dsn: str, user: str, rights: str) -> str:
    """A database of a new user with these rights; its DSN as that user."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create role {user} login nosuperuser {rights}".encode())
        connection.execute(f"create database {user}_database owner {user}".encode())
    return make_conninfo(dsn, user=user, dbname=f"{user}_database")


def migrated(dsn: str) -> list[str]:
    """What was applied."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return migrate(connection)


def jobs_seen(views: OwnedViews, owner: str) -> set[str]:
    """The owners of the jobs that this one can read."""
    with views.of(owner) as connection:
        return {row[0] for row in connection.execute("select owner from views.jobs").fetchall()}


def test_who_migrates_needs_no_superuser(bare_dsn: str) -> None:
    helpless = database_of(bare_dsn, "helpless", "nocreaterole")
    with pytest.raises(MigrationRefused, match=r"0007_owners\.sql.*grant darkroom_api to helpless"):
        migrated(helpless)

    maker = database_of(bare_dsn, "maker", "createrole")
    names = [migration.name for migration in all_migrations()]
    assert migrated(maker) == names
    assert why_unfit(maker, logs_in=False) is None
    _project_and_rebuild_as_a_mere_owner(maker)

    assert migrated(helpless) == names  # the role is there now, though not his
    assert "grant darkroom_api to helpless" in str(why_unfit(helpless, logs_in=False))
    assert why_unfit(logging_in_as_role(helpless), logs_in=True) is None
    with psycopg.connect(bare_dsn, autocommit=True) as connection:
        connection.execute("grant darkroom_api to helpless")
    assert why_unfit(helpless, logs_in=False) is None


def _project_and_rebuild_as_a_mere_owner(dsn: str) -> None:
    with (
        Database(dsn) as database,
        Flusher(dsn) as flusher,
        Ledger(PostgresRecorder(database, flusher)) as ledger,
    ):
        story = Story(ledger, lambda: NOW)
        for owner in ("ada", "bob"):
            story.submit(owner=owner)
        Projector(database, ledger, ALL).step()
        for view in ALL:
            assert rebuild(database, ledger, view).same
    with OwnedViews(dsn) as views:
        assert jobs_seen(views, "ada") == {"ada"}
        assert jobs_seen(views, "carl") == set()


def settings_of(dsn: str, api_dsn: str | None = None) -> Settings:
    """Both servers given."""
    given = {"postgres_dsn": dsn, "nats_url": "nats://nowhere"}
    return Settings.model_validate(given | ({} if api_dsn is None else {"postgres_api_dsn": api_dsn}))


def test_the_api_takes_no_login_that_sees_more_than_one_owner(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create role stranger login")
        connection.execute("create role member login in role darkroom_api")
        connection.execute("create role owner_too login in role darkroom_api, postgres")
        connection.execute("create role reader login in role darkroom_api, pg_read_all_data")
        connection.execute("create role bypassing login bypassrls in role darkroom_api")
    try:
        for user, reason in {
            "darkroom_api": None,
            "member": None,
            "stranger": "is no member of the role darkroom_api",
            "postgres": "may read more than the rows of one owner",
            "owner_too": "may read more",
            "reader": "may read more",
            "bypassing": "may read more",
        }.items():
            login = make_conninfo(dsn, user=user)
            if reason is None:
                assert views_dsn(settings_of(dsn, login)) == login
            else:
                with pytest.raises(SettingsError, match=f"DARKROOM_POSTGRES_API_DSN: its user {user} {reason}"):
                    views_dsn(settings_of(dsn, login))
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("drop role stranger, member, owner_too, reader, bypassing")


def test_without_a_login_of_its_own_the_api_takes_the_role(dsn: str) -> None:
    with OwnedViews(views_dsn(settings_of(dsn))) as views, views.of("ada") as connection:
        assert connection.execute("select session_user::text, current_user::text").fetchone() == (
            "postgres",
            "darkroom_api",
        )


def test_a_server_that_is_not_up_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    login = "postgresql://darkroom_api:hunter2@127.0.0.1:1/darkroom"
    assert views_dsn(settings_of(login, login)) == login
    assert "is not known yet" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("given", ["no token", "a login that sees everything", "a login that is none"])
def test_an_api_that_cannot_run_is_one_line_and_status_2(given: str, dsn: str, nats_url: str, tmp_path: Path) -> None:
    environment = {
        "DARKROOM_POSTGRES_DSN": dsn,
        "DARKROOM_NATS_URL": nats_url,
        "DARKROOM_PORT": "0",
        "DARKROOM_ADMIN_TOKEN": "" if given == "no token" else TOKEN,
        "DARKROOM_POSTGRES_API_DSN": {
            "no token": "",
            "a login that sees everything": dsn,
            "a login that is none": "hunter2",
        }[given],
    }
    refused = darkroom("run", "api", data_dir=tmp_path, environment=environment)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
    assert ("DARKROOM_ADMIN_TOKEN" if given == "no token" else "DARKROOM_POSTGRES_API_DSN") in refused.stderr
    assert "hunter2" not in refused.stderr
