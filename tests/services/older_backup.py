"""A ledger that goes back to what it was: what a restore of an older backup does to it, and who writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher


@dataclass(frozen=True)
class Backup:
    """A copy of a database as it was."""

    server: str
    name: str
    copy: str

    def restore(self) -> None:
        """Put it back in place of what the database is now; every connection is cut."""
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self.name)))
            copied = sql.SQL("create database {} template {}")
            connection.execute(copied.format(sql.Identifier(self.name), sql.Identifier(self.copy)))


@contextmanager
def backup_of(dsn: str) -> Iterator[Backup]:
    """Take a backup; every connection is cut for that. It is gone at the end of the block."""
    name = str(conninfo_to_dict(dsn)["dbname"])
    server = make_conninfo(dsn, dbname="postgres")
    copy = f"backup_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        ended = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
        allowed = sql.SQL("alter database {} allow_connections {}")
        connection.execute(allowed.format(sql.Identifier(name), sql.SQL("false")))
        connection.execute(ended, (name,))
        connection.execute(sql.SQL("create database {} template {}").format(*map(sql.Identifier, (copy, name))))
        connection.execute(allowed.format(sql.Identifier(name), sql.SQL("true")))
        try:
            yield Backup(server, name, copy)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(copy)))


@contextmanager
def writing(dsn: str) -> Iterator[Ledger]:
    """The ledger of a process of its own."""
    with Database(dsn) as database, Flusher(dsn) as flusher:
        recorder = PostgresRecorder(database, flusher)
        try:
            with Ledger(recorder) as ledger:
                yield ledger
        finally:
            recorder.datastore.close()
