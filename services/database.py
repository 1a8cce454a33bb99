"""Postgres connections: a small pool, and one exception for "not reachable now"."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from select import POLLIN, poll
from typing import Any, Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

CHECKOUT_S_MAX = 3.0
"""Seconds that a caller waits for a connection before `Unavailable` is raised."""

CONNECTING: Final[Mapping[str, Any]] = {
    "autocommit": True,
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Arguments of every connection. A connection that hangs is dropped after about 10 s (the last value is in ms)."""


REMEDIES: Final[Mapping[str, str]] = {
    "postgres_unreachable": "See that Postgres runs, and that DARKROOM_POSTGRES_DSN has its host and port.",
    "disk_full": "Free some space on the disk of Postgres; everything goes on by itself.",
    "locked": "Wait for an import, a restore or a migration that runs; `darkroom doctor` names the process.",
    "too_slow": "See what the server is busy with: select * from pg_stat_activity where state <> 'idle'.",
    "ledger_stopped": "Run `darkroom restored`; docs/backup.md says what it does.",
    "not_compared": "See that NATS runs, and that DARKROOM_NATS_URL has its host and port.",
    "transaction_ended": "Try it again; if a program was stopped in the middle of it, start that again.",
}


GONE: Final = (
    psycopg.OperationalError,  # includes a pool's `PoolTimeout`
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
"""psycopg's exceptions when Postgres is unavailable or ended the statement."""


class Unavailable(Exception):
    """A required server cannot be reached now. Nothing is lost; try again shortly."""

    code = "unavailable"

    def __init__(self, sentence: str, *, reason: str = "postgres_unreachable") -> None:
        """`reason` is the kind of problem for operators; clients get one code, because they react in the same way."""
        super().__init__(sentence)
        self.reason = reason

    @property
    def remedy(self) -> str:
        """What an operator can do about it."""
        return REMEDIES[self.reason]


STOPPED: Final = "DR001"
"""The SQLSTATE with which the ledger refuses events while writes are stopped: see migrations/0016_epochs.sql."""


class WritesStopped(Unavailable):
    """The ledger accepts no events: it is not the one that NATS has seen. `darkroom restored` allows writes again."""

    code = "ledger_stopped"

    def __init__(self, sentence: str | None) -> None:
        """`sentence` is the message from Postgres."""
        super().__init__(sentence or "Writes to the ledger are stopped.", reason="ledger_stopped")


class Database:
    """A pool of autocommit connections. `open()` does not wait for Postgres; the first use does."""

    def __init__(self, dsn: str, *, size_max: int = 8) -> None:
        self._pool: ConnectionPool[Connection[TupleRow]] = ConnectionPool(
            dsn,
            kwargs=dict(CONNECTING),
            min_size=1,
            max_size=size_max,
            timeout=CHECKOUT_S_MAX,
            reconnect_timeout=CHECKOUT_S_MAX,
            configure=prepare_where_it_is_safe,
            check=check_if_it_spoke,
            open=False,
        )
        self.dsn = dsn

    def open(self) -> "Database":
        """Start the pool's connections in the background."""
        self._pool.open(wait=False)
        return self

    def close(self) -> None:
        """Close every connection."""
        self._pool.close(timeout=1.0)

    def __enter__(self) -> "Database":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def connection(self) -> Iterator[Connection[TupleRow]]:
        """An autocommit connection. Raises `Unavailable` when Postgres cannot be reached or goes away."""
        with translated(), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection[TupleRow]]:
        """A connection in a transaction that commits when the block ends without an exception."""
        with self.connection() as connection, connection.transaction():
            yield connection


def connect(dsn: str) -> Connection[TupleRow]:
    """One connection with the settings of the pools. Raises psycopg's exceptions."""
    connection = psycopg.connect(dsn, **CONNECTING)
    prepare_where_it_is_safe(connection)
    return connection


def prepare_where_it_is_safe(connection: Connection[TupleRow]) -> None:
    """Disable prepared statements if a pooler may switch the connection to another Postgres process.

    A pooler has no server process when it greets the client, so it makes up a process number. The connection is pooled
    if the process that answers is not the one that greeted.
    """
    row = connection.execute("select pg_backend_pid()", prepare=False).fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        connection.prepare_threshold = None  # even if a query asks for it


def check_if_it_spoke(connection: Connection[TupleRow]) -> None:
    """Check a connection only when its socket is readable: Postgres sends its goodbye unasked.

    Checking each time would cost every reader a round trip, a fifth of the cost of a command.
    """
    spoken = poll()
    if not connection.closed:
        spoken.register(connection.fileno(), POLLIN)
    if connection.closed or spoken.poll(0):
        ConnectionPool.check_connection(connection)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's exceptions for a lost server into `Unavailable`. Never repeats the DSN: it may hold a password."""
    try:
        yield
    except GONE as error:
        raise why_unavailable(error) from error
    except psycopg.DatabaseError as error:
        if error.sqlstate == STOPPED:
            raise WritesStopped(error.diag.message_primary) from None
        raise


def why_unavailable(error: psycopg.Error) -> Unavailable:
    """What happened, in a sentence without any part of the DSN, with a code and a remedy."""
    match error:
        case PoolTimeout():
            return Unavailable(f"Postgres did not answer within {CHECKOUT_S_MAX:g} s.")
        case psycopg.errors.DiskFull():
            return Unavailable("Postgres has no disk space left; free some and everything goes on.", reason="disk_full")
        case psycopg.errors.LockNotAvailable():
            return Unavailable("Another process holds a lock in Postgres that this needs.", reason="locked")
        case psycopg.errors.QueryCanceled():
            return Unavailable("Postgres did not answer in time.", reason="too_slow")
        case psycopg.errors.IdleInTransactionSessionTimeout() | psycopg.errors.TransactionTimeout():
            return Unavailable(
                "Postgres ended the transaction, which held its locks for too long; nothing of it was kept.",
                reason="transaction_ended",
            )
        case _:
            return Unavailable("Postgres cannot be reached.")
