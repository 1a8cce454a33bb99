"""Tests may trust the databases they are given: whatever one test did, the next starts as if it was first."""

import psycopg
import pytest

from services.ledger.flusher import Flusher
from tests.databases import Databases
from tests.services.commits import WAIT_S_MAX, opening


def test_a_database_that_comes_back_has_no_row_and_no_visitor(databases: Databases) -> None:
    with databases.migrated() as dsn, Flusher(dsn) as flusher:
        flusher.append(opening(events=3)).result(timeout=WAIT_S_MAX)
        lingering = psycopg.connect(dsn)
        lingering.execute("select * from ledger").fetchall()  # holds a lock that would stop a delete of the table
    with databases.migrated() as again, psycopg.connect(again) as connection:
        assert again == dsn
        for table in ("ledger", "ledger_commits", "ledger_commands", "view_progress"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
        assert connection.execute("show session_replication_role").fetchone() == ("origin",)
        with pytest.raises(psycopg.OperationalError):
            lingering.execute("select 1")
    lingering.close()


@pytest.mark.parametrize(
    "change",
    [
        "create table left_behind (id int)",
        "alter table ledger disable trigger all",
        "alter schema views rename to other_views",
        "create or replace function ledger_is_append_only() returns trigger language plpgsql as 'begin end'",
        "update migrations set sha256 = ''",
    ],
)
def test_a_database_whose_schema_changed_is_not_handed_out_again(databases: Databases, change: str) -> None:
    with databases.migrated() as dsn, psycopg.connect(dsn) as connection:
        connection.execute(change)
    with databases.migrated() as other:
        assert other != dsn
