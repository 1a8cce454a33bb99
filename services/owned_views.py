"""The views as one owner sees them: by a role that row-level security shows this owner's rows and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from projections.sql import load
from services.database import Database

SQL = load("owned_views.sql", "services")

ROLE: Final = "darkroom_api"
"""Made by a migration. It may read the views, each row for its owner, and nothing else."""


class OwnedViews:
    """Reads of the live views, each for one owner. A query that forgets its owner finds nothing of anybody's."""

    def __init__(self, dsn: str) -> None:
        """`dsn` is that of a user who may act as `ROLE`, as whoever migrated the database may."""
        self._database = Database(_as_role(dsn))

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


def _as_role(dsn: str) -> str:
    """Plans are made for each query: which of a list's filters are set decides how it is best read."""
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} -c role={ROLE} -c plan_cache_mode=force_custom_plan".strip())
