"""The schema: each migration once, in order, all or nothing, and never against another version's database."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from services.migrate import Migration, MigrationChanged, all_migrations, migrate

FIRST = Migration("0001_first.sql", "-- First.\ncreate table first (id int);")
SECOND = Migration("0002_second.sql", "-- Second.\ncreate table second (id int);")
BROKEN = Migration("0003_broken.sql", "-- Broken.\ncreate table third (id int); select 1 / 0;")
TABLES = "select tablename::text from pg_tables where schemaname = 'public' order by 1"


@pytest.fixture
def connection(empty_dsn: str) -> Iterator[Connection[TupleRow]]:
    """A connection to a database without a schema."""
    with psycopg.connect(empty_dsn, autocommit=True) as opened:
        yield opened


def tables(connection: Connection[TupleRow]) -> list[str]:
    """The tables that are there."""
    return [name for (name,) in connection.execute(TABLES)]


def applied(connection: Connection[TupleRow]) -> list[str]:
    """The migrations on record."""
    return [name for (name,) in connection.execute("select name from migrations order by applied_at, name")]


def test_an_empty_database_gets_every_migration_in_order(connection: Connection[TupleRow]) -> None:
    names = [migration.name for migration in all_migrations()]
    assert migrate(connection) == names
    assert applied(connection) == names
    assert {"ledger", "ledger_commits", "ledger_commands", "migrations"} <= set(tables(connection))


def test_a_second_time_nothing_is_applied(connection: Connection[TupleRow]) -> None:
    migrate(connection)
    assert migrate(connection) == []


def test_only_what_is_missing_is_applied(connection: Connection[TupleRow]) -> None:
    assert migrate(connection, [FIRST]) == [FIRST.name]
    assert migrate(connection, [FIRST, SECOND]) == [SECOND.name]
    assert tables(connection) == ["first", "migrations", "second"]


def test_several_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    ready = Barrier(4)

    def start(_: int) -> list[str]:
        with psycopg.connect(empty_dsn, autocommit=True) as opened:
            ready.wait(timeout=30)
            return migrate(opened)

    with ThreadPoolExecutor(max_workers=4) as pool:
        results = list(pool.map(start, range(4)))
    assert sorted(results, key=len) == [[], [], [], [migration.name for migration in all_migrations()]]


def test_a_changed_migration_is_refused_before_anything_is_applied(connection: Connection[TupleRow]) -> None:
    migrate(connection, [FIRST])
    changed = replace(FIRST, sql=FIRST.sql + " -- and more")
    with pytest.raises(MigrationChanged, match=FIRST.name):
        migrate(connection, [changed, SECOND])
    assert tables(connection) == ["first", "migrations"]
    assert applied(connection) == [FIRST.name]


def test_a_database_of_a_newer_version_is_refused(connection: Connection[TupleRow]) -> None:
    migrate(connection, [FIRST, SECOND])
    with pytest.raises(MigrationChanged, match=rf"{SECOND.name}.*newer version"):
        migrate(connection, [FIRST])


def test_a_migration_that_fails_leaves_nothing_behind(connection: Connection[TupleRow]) -> None:
    migrate(connection, [FIRST])
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(connection, [FIRST, SECOND, BROKEN])
    assert tables(connection) == ["first", "migrations"]
    assert applied(connection) == [FIRST.name]
    assert migrate(connection, [FIRST, SECOND]) == [SECOND.name]


def test_a_first_migration_that_fails_leaves_an_empty_database(connection: Connection[TupleRow]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(connection, [BROKEN])
    assert tables(connection) == []


def test_each_file_has_a_number_of_its_own() -> None:
    names = [migration.name for migration in all_migrations()]
    assert all(re.fullmatch(r"\d{4}[a-z]?_[a-z_]+\.sql", name) for name in names)
    assert len({name.partition("_")[0] for name in names}) == len(names)
    assert names == sorted(names)


@pytest.mark.parametrize("migration", all_migrations(), ids=lambda migration: migration.name)
def test_a_file_begins_with_its_reason(migration: Migration) -> None:
    first_line = migration.sql.splitlines()[0]
    assert re.fullmatch(r"-- \S.{20,}", first_line)


def test_the_map_of_the_schema_lists_every_table_and_no_other(connection: Connection[TupleRow]) -> None:
    page = (Path(__file__).parents[2] / "migrations" / "README.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    migrate(connection)
    rows = connection.execute(
        "select case schemaname when 'views' then 'views.' else '' end || tablename from pg_tables"
        " where schemaname in ('public', 'views')"
    ).fetchall()
    assert listed == {name for (name,) in rows}
