"""Row-level security: the role that the API reads with sees the rows of one owner, of every table of the views."""

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from projections import ALL
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.views.owned_views import OwnedViews, logging_in_as_role
from services.views.projector import Projector
from services.views.rebuild import rebuild, rebuild_as_of
from tests.histories import Story
from tests.services.lossy_proxy import LossyProxy

RELATIONS = """
select c.relname::text, c.relkind::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'views' and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1
"""

ELSEWHERE = """
select n.nspname::text, c.relname::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('views', 'pg_catalog', 'information_schema')
  and n.nspname not like 'pg\\_%' order by 1, 2
"""

CHECKS = "select conname::text from pg_constraint where conrelid = %s::regclass and contype = 'c'"

REQUIRED = """
select a.attname::text, format_type(a.atttypid, null) from pg_attribute a
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  and (a.attnotnull or a.attname = 'owner') and a.attname <> 'owner'
"""

DEFINERS = """
select p.oid::regprocedure::text, p.proconfig
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname in ('public', 'views')
"""

OWNERS = ("ada", "ada", "bob", "")


@pytest.fixture
def api(dsn: str) -> Iterator[Connection[TupleRow]]:
    """What the API has: a login of the role, and no more."""
    with psycopg.connect(logging_in_as_role(dsn), autocommit=True) as connection:
        yield connection


def tables_of(connection: Connection[TupleRow]) -> list[str]:
    """Every table of the views. A view in SQL would be read with its maker's rights: there must be none."""
    relations = dict(connection.execute(RELATIONS).fetchall())
    assert {"jobs", "assets", "workspace", "library", "history", "queue", "performance"} <= set(relations)
    assert set(relations.values()) <= {"r", "p"}
    return list(relations)


def fill_every_table(connection: Connection[TupleRow]) -> list[str]:
    """Rows of several owners in every table, whatever it holds: a table that is added later is tried as well."""
    numbers = itertools.count(1)
    tables = tables_of(connection)
    for table in tables:
        name = sql.Identifier("views", table)
        for (constraint,) in connection.execute(CHECKS, (f"views.{table}",)).fetchall():
            connection.execute(sql.SQL("alter table {} drop constraint {}").format(name, sql.Identifier(constraint)))
        columns = dict(connection.execute(REQUIRED, (f"views.{table}",)).fetchall())
        for owner in OWNERS:
            values = [sql.Literal(owner), *(_some_value(kind, next(numbers)) for kind in columns.values())]
            statement = sql.SQL("insert into {} ({}) values ({})").format(
                name, sql.SQL(", ").join(map(sql.Identifier, ["owner", *columns])), sql.SQL(", ").join(values)
            )
            connection.execute(statement)
    return tables


def _some_value(kind: str, number: int) -> sql.Composable:
    """A value of the type that no other row has, where the type has so many."""
    if kind.endswith("[]"):
        return sql.SQL("'{}'")
    given = {
        "uuid": sql.SQL("gen_random_uuid()"),
        "text": sql.Literal(f"text {number}"),
        "jsonb": sql.SQL("'{}'"),
        "boolean": sql.SQL("false"),
        "timestamp with time zone": sql.SQL("now()"),
        "bytea": sql.SQL("'x'"),
        "tsvector": sql.SQL("''"),
    }
    return given.get(kind) or sql.Literal(number)


def seen(connection: Connection[TupleRow], table: str) -> list[str]:
    """The owners of the rows that can be read, one for each row."""
    rows = connection.execute(sql.SQL("select owner from {} order by 1").format(sql.Identifier("views", table)))
    return [owner for (owner,) in rows]


def act_for(connection: Connection[TupleRow], owner: str) -> None:
    """What `OwnedViews.of` does."""
    connection.execute("select set_config('darkroom.owner', %s, false)", (owner,))


def test_of_every_table_an_owner_sees_his_own_rows_and_nobody_any_without_one(
    database: Database, api: Connection[TupleRow]
) -> None:
    with database.connection() as connection:
        tables = fill_every_table(connection)
        assert {table: seen(connection, table) for table in tables} == dict.fromkeys(tables, sorted(OWNERS))
    assert {table: seen(api, table) for table in tables} == {table: [] for table in tables}
    for owner, rows in {"ada": ["ada", "ada"], "bob": ["bob"], "ADA": [], "carl": [], "": []}.items():
        act_for(api, owner)
        assert {table: seen(api, table) for table in tables} == dict.fromkeys(tables, rows), owner
    api.execute("reset darkroom.owner")
    assert {table: seen(api, table) for table in tables} == {table: [] for table in tables}


def test_the_connections_of_the_api_see_what_is_the_owners_whoever_had_them_before(
    dsn: str, database: Database
) -> None:
    with database.connection() as connection:
        tables = fill_every_table(connection)
    for way in (logging_in_as_role(dsn), dsn):
        with OwnedViews(way) as views:
            for owner in ("ada", "bob", "carl", "ada"):
                with views.of(owner) as connection:
                    for table in tables:
                        assert seen(connection, table) == [each for each in OWNERS if each == owner]


def test_the_role_reads_nothing_else(
    dsn: str, database: Database, ledger: Ledger, story: Story, api: Connection[TupleRow]
) -> None:
    story.submit(owner="ada")
    for view in ALL:
        Projector(database, ledger, [view]).step()
        rebuild(database, ledger, view)
        rebuild_as_of(database, ledger, view, ledger.head())
    act_for(api, "ada")
    with database.connection() as connection:
        connection.execute("create table views_next.jobs (like views.jobs including all)")
        elsewhere = connection.execute(ELSEWHERE).fetchall()
    assert {
        ("public", "ledger"),
        ("public", "ledger_commits"),
        ("public", "ledger_commands"),
        ("public", "api_keys"),
        ("public", "parked_events"),
        ("public", "migrations"),
        ("views_next", "jobs"),
        ("views_previous", "jobs"),
        ("views_as_of", "jobs"),
    } <= set(elsewhere)
    for place in elsewhere:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            api.execute(sql.SQL("select * from {}").format(sql.Identifier(*place)))
    assert seen(api, "jobs") == ["ada"]


@pytest.mark.parametrize(
    "statement",
    [
        "set role postgres",
        "set session authorization postgres",
        "set row_security = off; select * from views.jobs",
        "update views.jobs set owner = 'ada'",
        "delete from views.jobs",
        "insert into views.queue select * from views.queue",
        "truncate views.jobs",
        "alter table views.jobs disable row level security",
        "drop policy of_owner on views.jobs",
        "select views_secure('views.jobs')",
        "create table public.own (id int)",
        "create view views.own as select 1",
        "alter role darkroom_api superuser",
        "grant postgres to darkroom_api",
        "select ledger_append('{}', '{}', '{}', '{}')",
    ],
)
def test_the_role_can_do_nothing_else(api: Connection[TupleRow], statement: str) -> None:
    act_for(api, "ada")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction)):
        api.execute(statement)


def test_there_is_no_role_to_go_back_to(api: Connection[TupleRow]) -> None:
    for statement in ("reset role", "set role none", "reset session authorization", "discard all"):
        api.execute(statement)
        assert api.execute("select session_user::text, current_user::text").fetchone() == ("darkroom_api",) * 2


def test_the_planners_statistics_tell_nothing_of_others(database: Database, api: Connection[TupleRow]) -> None:
    with database.connection() as connection:
        fill_every_table(connection)
        connection.execute("analyze")
        assert connection.execute("select 1 from pg_stats where schemaname = 'views'").fetchone()
    assert api.execute("select 1 from pg_stats where schemaname = 'views'").fetchone() is None


def test_a_function_that_runs_as_its_maker_cannot_be_led_astray(database: Database) -> None:
    """Whoever calls it could else put a table or an operator of his own in the way."""
    with database.connection() as connection:
        found = connection.execute(DEFINERS).fetchall()
    assert [name for name, settings in found if not any(one.startswith("search_path=") for one in settings or [])] == []


def test_a_rebuild_leaves_every_table_secured(
    database: Database, ledger: Ledger, story: Story, api: Connection[TupleRow]
) -> None:
    story.submit(owner="ada")
    story.submit(owner="bob")
    Projector(database, ledger, ALL).step()
    for _ in range(2):
        for view in ALL:
            assert rebuild(database, ledger, view).same
        with database.connection() as connection:
            tables = tables_of(connection)
            there = {table: seen(connection, table) for table in tables}
        assert {"ada", "bob"} == set(there["history"]) == set(there["jobs"])
        act_for(api, "")
        assert {table: seen(api, table) for table in tables} == {table: [] for table in tables}
        act_for(api, "ada")
        assert {table: seen(api, table) for table in tables} == {
            table: [owner for owner in owners if owner == "ada"] for table, owners in there.items()
        }


@pytest.mark.parametrize("lost", ["statement", "answer"])
def test_a_line_that_breaks_as_a_read_begins_is_said_as_unavailable(dsn: str, lost: str) -> None:
    with LossyProxy(dsn) as proxy, OwnedViews(proxy.dsn) as views:
        with views.of("ada") as connection:
            assert connection.execute("select count(*) from views.jobs").fetchone() == (0,)
        proxy.lose_next_statement() if lost == "statement" else proxy.lose_next_answer()
        with pytest.raises(Unavailable, match="Postgres cannot be reached"), views.of("ada"):
            pass
        assert proxy.cuts == 1
        with views.of("ada") as connection:
            assert connection.execute("select count(*) from views.jobs").fetchone() == (0,)
