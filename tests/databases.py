"""A fresh database for each test, at the price of a few deletes.

Each is a clone of the migrated template. Making and dropping one costs hundreds of files and a checkpoint; so one whose
schema a test left as it was is emptied and handed out again, and only one whose schema changed is dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from services.migrate import migrate

TEMPLATE = "darkroom_template"
KEPT = {"public.migrations"}
"""Tables whose rows are part of the schema."""

TABLES = """
select format('%s.%s', schemaname, tablename) from pg_tables
where schemaname not in ('pg_catalog', 'information_schema') order by 1
"""

SCHEMA = """
with ours as (
  select oid, nspname, nspacl from pg_namespace
  where nspname not in ('pg_catalog', 'information_schema') and nspname not like 'pg\\_%'
)
select md5(concat(
  (select string_agg(ours::text, ',' order by oid) from ours),
  (select string_agg(format('%s %s %s %s', c.oid, c.relnamespace, c.relname, c.relnatts), ',' order by c.oid)
    from pg_class c join ours on ours.oid = c.relnamespace),
  (select string_agg(format('%s %s', p.oid, md5(p.prosrc)), ',' order by p.oid)
    from pg_proc p join ours on ours.oid = p.pronamespace),
  (select string_agg(format('%s %s', t.oid, t.tgenabled), ',' order by t.oid) from pg_trigger t),
  (select string_agg(format('%s %s', k.oid, k.conname), ',' order by k.oid)
    from pg_constraint k join ours on ours.oid = k.connamespace),
  (select string_agg(m::text, ',' order by name) from migrations m),
  (select string_agg(s.setconfig::text, ',') from pg_db_role_setting s
    join pg_database d on d.oid = s.setdatabase and d.datname = current_database())
))
"""

END_OTHERS = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


class Databases:
    """Hands out databases of one server, and takes them back."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._ready: list[str] = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE}")
        with psycopg.connect(dsn, dbname=TEMPLATE, autocommit=True) as connection:
            migrate(connection)
            self._schema = _schema(connection)

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The DSN of a database with the schema and without a row, for this block alone."""
        name = self._ready.pop() if self._ready else self._create(TEMPLATE)
        try:
            yield make_conninfo(self._dsn, dbname=name)
        finally:
            if self._emptied(name):
                self._ready.append(name)
            else:
                self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The DSN of a database that no migration has touched, for this block alone."""
        name = self._create("template1")
        try:
            yield make_conninfo(self._dsn, dbname=name)
        finally:
            self._drop(name)

    def _create(self, template: str) -> str:
        name = f"darkroom_{uuid4().hex}"
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f"create database {name} template {template}")
        return name

    def _drop(self, name: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")

    def _emptied(self, name: str) -> bool:
        """Whether it is as new: not if its schema changed."""
        with psycopg.connect(self._dsn, dbname=name, options="-c default_transaction_read_only=off") as connection:
            connection.execute(END_OTHERS)
            connection.commit()
            if _schema(connection) != self._schema:
                return False
            connection.execute("set session_replication_role = replica")  # the ledger's triggers refuse deletes
            for (table,) in connection.execute(TABLES).fetchall():
                if table not in KEPT:
                    connection.execute(sql.SQL("delete from {}").format(sql.Identifier(*table.split("."))))
            connection.execute("insert into epochs (number, from_position, reason) values (0, 1, 'first')")
        return True


def _schema(connection: Connection[TupleRow]) -> str:
    row = connection.execute(SCHEMA.encode()).fetchone()
    assert row is not None
    return str(row[0])
