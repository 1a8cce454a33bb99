"""Restores the rights of a database that was restored without its roles.

A dump has the tables and functions of a database; roles belong to the server, and every grant, policy and owner that
names a missing one is lost. The correct rights are not written down a second time: the same migrations are applied to a
temporary database, and the rights that this one lacks are granted.
"""

from collections.abc import Callable, Sequence
from uuid import uuid4

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from projections.sql import load

SQL = load("rights.sql", "services.restore")

WITHOUT_ROLES = "the database was restored without its roles; run `darkroom migrate` as a user who may make roles"


class RightsUnknown(Exception):
    """The user may not create the temporary database."""

    code = "rights_unknown"


def lacks_rights(connection: Connection[TupleRow]) -> bool:
    """Whether the schema exists without the rights that its migrations gave to its roles."""
    for asked in (SQL["is_migrated"], SQL["lacking"]):
        row = connection.execute(asked).fetchone()
        if row is None or not row[0]:
            return False
    return True


def rights_of(connection: Connection[TupleRow]) -> list[str]:
    """Every right of the schema, as the statement that grants it, in an order in which they can run."""
    return [str(statement) for (statement,) in connection.execute(SQL["rights"])]


def rights_wanted(connection: Connection[TupleRow], apply: Callable[[Connection[TupleRow]], object]) -> list[str]:
    """The rights after `apply` on an empty database of the same server, which also creates the roles.

    Raises `RightsUnknown`.
    """
    info = connection.info
    there = make_conninfo(info.dsn, password=info.password or None)
    name = sql.Identifier(f"darkroom_rights_{uuid4().hex}")
    with psycopg.connect(there, autocommit=True) as maker:
        try:
            maker.execute(sql.SQL("create database {} template template0").format(name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise RightsUnknown(
                f"The database was restored without its roles, and its user {info.user} may not make a database to "
                "look up what they may do: run `darkroom migrate` once as a superuser, or restore the roles first "
                "(pg_dumpall --roles-only) and the database again."
            ) from error
        try:
            with psycopg.connect(there, dbname=name.as_string(None).strip('"'), autocommit=True) as empty:
                apply(empty)
                return rights_of(empty)
        finally:
            maker.execute(sql.SQL("drop database {} with (force)").format(name))


def give(connection: Connection[TupleRow], wanted: Sequence[str]) -> int:
    """Grant the missing rights; returns their number."""
    there = set(rights_of(connection))
    lacking = [statement for statement in wanted if statement not in there]
    for statement in lacking:
        connection.execute(statement.encode())
    return len(lacking)
