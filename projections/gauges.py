"""What an operator watches besides the lists that people read: of the whole installation, of nobody in particular."""

from datetime import datetime

from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load

SQL = load("gauges.sql")


def oldest_waiting_s(connection: Connection[TupleRow], now: datetime) -> dict[str, float]:
    """How long the oldest waiting job of each pool has waited, in seconds; a pool without one is left out."""
    return dict(connection.execute(SQL["oldest_waiting"], {"now": now}).fetchall())


def parked_by_view(connection: Connection[TupleRow]) -> dict[str, int]:
    """How many events each live view keeps aside; a view without one is left out."""
    return dict(connection.execute(SQL["parked_by_view"]).fetchall())


def leases(connection: Connection[TupleRow]) -> dict[str, int]:
    """How many running attempts have a lease that is `live` or `expired`."""
    return dict(connection.execute(SQL["leases"]).fetchall())
