"""The views as one owner sees them: by a role that row-level security shows this owner's rows and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from projections.sql import load
from services.database import CONNECTING, Database, translated

SQL = load("owned_views.sql", "services")

ROLE: Final = "darkroom_api"
"""Made by a migration. It may read the live views, each row for its owner, and nothing else."""


PLANNING: Final = "-c plan_cache_mode=force_custom_plan -c enable_seqscan=off"
"""Plans are made for each query: which of a list's filters are set decides how it is best read. And by an index: nobody
reads through the rows of others, however much of a table is his own at this moment."""


class OwnedViews:
    """Reads of the live views, each for one owner. A query that forgets its owner finds nothing of anybody's."""

    def __init__(self, dsn: str) -> None:
        """`dsn` logs in as `ROLE` or as a member of it, or is one of `acting_as_role`."""
        self._database = Database(_with_options(dsn, PLANNING))

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
        """An autocommit connection that sees what is the owner's. Raises `Unavailable`."""
        with self._database.connection() as connection:
            connection.execute(SQL["of_owner"], (owner,), prepare=True)
            yield connection


def logging_in_as_role(dsn: str) -> str:
    """The same server without a way back to more; for one that trusts whoever reaches it, as the bundled one does."""
    return make_conninfo(dsn, user=ROLE)


def acting_as_role(dsn: str) -> str:
    """For the user of a server that has no login of its own for the API: he takes the role when he connects."""
    return _with_options(dsn, f"-c role={ROLE}")


def why_unfit(dsn: str, *, logs_in: bool) -> str | None:
    """Why the views cannot be read by this user each for its owner: the rest of a sentence about him; None if they can.

    `logs_in`: by what he may do himself; else by acting as `ROLE`. Raises `Unavailable`.
    """
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        row = connection.execute(SQL["rights"], {"role": ROLE}).fetchone()
    if row is None:
        raise AssertionError("one row of rights")
    user, is_member, may_act, sees_all = row
    if not logs_in:
        return None if may_act else f"its user {user} may not act as the role {ROLE}; `grant {ROLE} to {user}`"
    if sees_all:
        return f"its user {user} may read more than the rows of one owner; use {ROLE} or a mere member of it"
    return None if is_member else f"its user {user} is no member of the role {ROLE}; `grant {ROLE} to {user}`"


def _with_options(dsn: str, more: str) -> str:
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} {more}".strip())
