"""docs/backup.md is right: its commands are run as they stand there, on real servers."""

import shutil
from pathlib import Path

import psycopg

from projections import ALL
from services.database import Database
from services.restore.rights import lacks_rights, rights_of
from services.views.rebuild import matches_ledger
from tests import backup_page
from tests.backup_page import commands
from tests.histories import Views
from tests.services.older_backup import writing
from tests.services.restore.test_restored import story_in
from tests.services.restore.test_rights import other  # noqa: F401 - a fixture


def run(block: str, **environment: str) -> str:
    done = backup_page.run(block, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_backs_up_and_restores_into_another_server_with_its_roles(
    dsn: str,
    other: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    with writing(dsn) as ledger, Database(dsn) as database:
        story_in(ledger).finished(2)
        Views(database, ledger).catch_up()
        head = ledger.head()
    with psycopg.connect(dsn) as connection:
        wanted = rights_of(connection)
    folder, backup = tmp_path / "data", tmp_path / "backup"
    (folder / "blobs").mkdir(parents=True)
    backup.mkdir()
    (folder / "blobs" / "a.png").write_bytes(b"a")
    (folder / "admin.token").write_text("token")
    (folder / "postgres.dsn").write_text(f"{dsn}\n")
    run(commands("backup"), DIR=str(folder), BACKUP=str(backup))
    assert (backup / "blobs" / "a.png").read_bytes() == b"a"
    shutil.rmtree(folder)
    said = run(commands("restore"), NEW=other, BACKUP=str(backup))
    assert "The schema is up to date." in said
    assert "ledger: fits" in said
    with psycopg.connect(other) as connection:
        assert not lacks_rights(connection)
        assert rights_of(connection) == wanted
    with writing(other) as ledger, Database(other) as database:
        assert ledger.head() == head
        story_in(ledger).submit(1)
        Views(database, ledger).catch_up()
        for view in ALL:
            assert matches_ledger(database, ledger, view).same
