"""The views as one owner sees them: by a role that row-level security shows this owner's rows and no others."""

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

SQL = load("owned_views.sql", "services")

ROLE: Final = "darkroom_api"
"""Made by a migration. It may read the live views, each row for its owner, and nothing else."""


POOLED_BY_STATEMENT: Final = "statement pooling mode"
"""What PgBouncer says to a transaction where it hands a connection on after each statement."""


class OwnedViews:
    """Reads of the live views, each for one owner. A query that forgets its owner finds nothing of anybody's."""

    def __init__(self, dsn: str) -> None:
        """`dsn` logs in as `ROLE`, or as a user who may become it."""
        self._database = Database(dsn)

    def open(self) -> "OwnedViews":
        """Start the connections in the background."""
        self._database.open()
        return self

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> "OwnedViews":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def of(self, owner: str) -> Iterator[Connection[TupleRow]]:
        """A transaction that sees what is the owner's, for reading. Raises `Unavailable`.

        Who reads, for whom, and how it is planned is said within the transaction, never to the connection: a pooler may
        hand that to anybody between two transactions.
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
    """The statements with which every transaction begins. Writing them costs as much as a round trip."""
    return sql.SQL(SQL["act"]).format(role=sql.Literal(ROLE), owner=sql.Literal(owner)).as_bytes(None)


def _at_once(connection: Connection[TupleRow], statements: bytes) -> None:
    """Have statements carried out that return nothing of interest, without a cursor, which costs more than they do."""
    result = connection.pgconn.exec_(statements)
    if connection.pgconn.status == ConnStatus.BAD:  # libpq made the error itself, which then has no class of its own
        raise OperationalError(connection.pgconn.get_error_message())
    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
        raise error_from_result(result, encoding=connection.info.encoding)


def logging_in_as_role(dsn: str) -> str:
    """The same server without a way back to more; for one that trusts whoever reaches it, as the bundled one does."""
    return make_conninfo(dsn, user=ROLE)


def why_unfit(dsn: str, *, logs_in: bool) -> str | None:
    """Why the views cannot be read by this user each for its owner: the rest of a sentence about him; None if they can.

    `logs_in`: by what the user may do itself; else by acting as `ROLE`. Raises `Unavailable`.
    """
    with translated(), connect(dsn) as connection:
        try:
            with connection.transaction():
                row = connection.execute(SQL["rights"], {"role": ROLE}).fetchone()
        except GONE as error:
            if POOLED_BY_STATEMENT not in str(error):
                raise
            return (
                "it leads to a pooler in statement mode, which keeps no transaction together; "
                "use its transaction or session mode, or connect to Postgres itself"
            )
    if row is None:
        raise AssertionError("one row of rights")
    user, is_member, may_act, sees_all = row
    if not logs_in:
        return None if may_act else f"its user {user} may not act as the role {ROLE}; `grant {ROLE} to {user}`"
    if sees_all:
        return f"its user {user} may read more than the rows of one owner; use {ROLE} or a mere member of it"
    return (
        None if is_member and may_act else f"its user {user} is no member of the role {ROLE}; `grant {ROLE} to {user}`"
    )
