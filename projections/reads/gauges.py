"""Figures of the whole installation for operators, in addition to the lists that users read."""

from datetime import datetime

from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load

SQL = load("gauges.sql", "projections.reads")


def oldest_waiting_s(connection: Connection[TupleRow], now: datetime) -> dict[str, float]:
    """Seconds that the oldest waiting job of each pool has waited; pools without waiting jobs are left out."""
    return dict(connection.execute(SQL["oldest_waiting"], {"now": now}).fetchall())


def parked_by_view(connection: Connection[TupleRow]) -> dict[str, int]:
    """The number of parked events of each live view; views without any are left out."""
    return dict(connection.execute(SQL["parked_by_view"]).fetchall())


def leases(connection: Connection[TupleRow]) -> dict[str, int]:
    """The number of running attempts with a `live` and with an `expired` lease."""
    return dict(connection.execute(SQL["leases"]).fetchall())
