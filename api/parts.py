"""What the API is made of: the parts it is given, and what it keeps running while it serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from starlette.requests import HTTPConnection

from api.feed import Feed
from api.positions import ViewPositions
from api.progress import ProgressBoard
from domain.catalog import Catalog
from services.blobs import Blobs
from services.broker import Broker
from services.database import Database
from services.ledger import Ledger


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API needs, opened and closed by whoever made it, on the event loop that serves.

    `rebuild` builds a view anew and tells what it did as JSON; None where that is not possible. `clock` is the time of
    every command.
    """

    ledger: Ledger
    database: Database
    blobs: Blobs
    catalog: Catalog
    broker: Broker
    admin_token: str
    rebuild: Callable[[str], Mapping[str, Any]] | None = None
    clock: Callable[[], datetime] = utc_now


@dataclass(frozen=True, slots=True)
class Running:
    """The parts, and what runs beside the requests: the event feed, the latest progress, the views' positions."""

    parts: Parts
    feed: Feed
    progress: ProgressBoard
    positions: ViewPositions


def running(connection: HTTPConnection) -> Running:
    """What serves this request."""
    return cast("Running", connection.app.state.running)
