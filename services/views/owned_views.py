"""The views restricted to one owner: a database role with row-level security shows only this owner's rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from psycopg import Connection, OperationalError, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.rows import TupleRow

from projections.sql import load
from services.database import GONE, Database, connect, translated

SQL = load("owned_views.sql", "services.views")

ROLE: Final = "darkroom_api"
"""Database role created by a migration. It may only read the live views, and only the rows of the current owner."""


POOLED_BY_STATEMENT: Final = "statement pooling mode"
"""PgBouncer's error for a transaction when it reassigns connections after each statement."""


class OwnedViews:
    """Reads of the live views, each for one owner. With no owner set, a query finds no rows."""

    def __init__(self, dsn: str) -> None:
        """`dsn` logs in as `ROLE`, or as a user who may become it."""
        self._database = Database(dsn)

    def open(self) -> "OwnedViews":
        """Start the connections in the background."""
        self._database.open()
        return self

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> "OwnedViews":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def of(self, owner: str) -> Iterator[Connection[TupleRow]]:
        """A read-only transaction that sees only the owner's rows. Raises `Unavailable`.

        Role, owner and planner settings are set in the transaction, never for the session: a pooler may hand the
        connection to another client between two transactions.
        """
        with self._database.connection() as connection:
            _at_once(connection, _acting_for(owner))
            try:
                yield connection
            finally:
                if connection.info.transaction_status == TransactionStatus.INTRANS:
                    _at_once(connection, b"rollback")  # nothing was written


@lru_cache(maxsize=1_024)
def _acting_for(owner: str) -> bytes:
    """The statements at the start of every transaction. Building them costs as much as a round trip."""
    return sql.SQL(SQL["act"]).format(role=sql.Literal(ROLE), owner=sql.Literal(owner)).as_bytes(None)


def _at_once(connection: Connection[TupleRow], statements: bytes) -> None:
    """Execute statements without a result, without a cursor, which would cost more than they do."""
    result = connection.pgconn.exec_(statements)
    if connection.pgconn.status == ConnStatus.BAD:  # an error raised by libpq itself has no class of its own
        raise OperationalError(connection.pgconn.get_error_message())
    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
        raise error_from_result(result, encoding=connection.info.encoding)


def logging_in_as_role(dsn: str) -> str:
    """The same server with a login as `ROLE`, for a server that trusts every connection, as the bundled one does."""
    return make_conninfo(dsn, user=ROLE)


def why_unfit(dsn: str, *, logs_in: bool) -> str | None:
    """Why this user cannot read the views per owner, as the rest of a sentence; None if it can.

    `logs_in`: check the user's own rights; otherwise those after becoming `ROLE`. Raises `Unavailable`.
    """
    with translated(), connect(dsn) as connection:
        try:
            with connection.transaction():
                [rights] = connection.execute(SQL["rights"], {"role": ROLE}).fetchall()
        except GONE as error:
            if POOLED_BY_STATEMENT not in str(error):
                raise
            return (
                "it leads to a pooler in statement mode, which keeps no transaction together; "
                "use its transaction or session mode, or connect to Postgres itself"
            )
    user, is_member, may_act, sees_all = rights
    if not logs_in:
        return None if may_act else f"its user {user} may not act as the role {ROLE}; `grant {ROLE} to {user}`"
    if sees_all:
        return f"its user {user} may read more than the rows of one owner; use {ROLE} or a mere member of it"
    return (
        None if is_member and may_act else f"its user {user} is no member of the role {ROLE}; `grant {ROLE} to {user}`"
    )
