"""A database that was restored without its roles is given their rights again by `darkroom migrate`."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from projections import ALL
from services.database import Database
from services.embedded import EmbeddedServers
from services.embedded.postgres import _postgres_bin
from services.migrate import MigrationRefused, migrate
from services.restore.rights import lacks_rights, rights_of
from services.views.owned_views import OwnedViews
from services.views.rebuild import rebuild
from tests.histories import Views
from tests.services.older_backup import writing
from tests.services.restore.test_restored import story_in

ROLES = ("darkroom_api", "darkroom_reader", "darkroom_writer", "darkroom_projector")


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another server, which knows none of our roles."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-other-"))
    try:
        with EmbeddedServers(folder) as servers:
            yield servers.postgres_dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def dump(dsn: str) -> bytes:
    return subprocess.run([str(_postgres_bin() / "pg_dump"), "-Fc", "-d", dsn], check=True, capture_output=True).stdout


def restore(dump: bytes, dsn: str, *options: str) -> int:
    command = [str(_postgres_bin() / "pg_restore"), "-d", dsn, *options]
    return subprocess.run(command, input=dump, check=False, capture_output=True).returncode


@pytest.mark.parametrize("options", [(), ("--no-owner", "--no-privileges")], ids=["as it is", "without privileges"])
def test_what_a_restore_without_roles_lost_is_given_again(dsn: str, other: str, options: tuple[str, ...]) -> None:
    with writing(dsn) as ledger, Database(dsn) as database:
        story_in(ledger).finished(1)
        Views(database, ledger).catch_up()
    with psycopg.connect(dsn) as connection:
        wanted = rights_of(connection)
    assert restore(dump(dsn), other, *options) != 0  # it says that it could not do all
    with psycopg.connect(other, autocommit=True) as connection:
        assert lacks_rights(connection)
        assert migrate(connection) == []
        assert not lacks_rights(connection)
        assert rights_of(connection) == wanted
        assert migrate(connection) == []
    with writing(other) as ledger, Database(other) as database:
        story_in(ledger).submit(1)
        Views(database, ledger).catch_up()
        for view in ALL:
            assert rebuild(database, ledger, view).same
        with OwnedViews(other) as owned:
            for owner, rows in (("ada", 2), ("bob", 0)):
                with owned.of(owner) as connection:
                    assert len(connection.execute("select from views.jobs").fetchall()) == rows


def test_a_user_who_may_not_make_a_database_learns_what_to_do(dsn: str, other: str) -> None:
    assert restore(dump(dsn), other) != 0
    poor = f"poor_{uuid4().hex}"
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login").format(sql.Identifier(poor)))
        connection.execute(sql.SQL("grant select on migrations to {}").format(sql.Identifier(poor)))
    told = r"restored without its roles.*superuser"
    with psycopg.connect(other, user=poor, autocommit=True) as connection, pytest.raises(MigrationRefused, match=told):
        migrate(connection)


def test_a_database_with_its_roles_lacks_nothing(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        assert not lacks_rights(connection)
        assert len(rights_of(connection)) > 50
