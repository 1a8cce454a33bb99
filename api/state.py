"""The parts that the API is given, and its tasks while it serves."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from starlette.requests import HTTPConnection

from api.events.feed import Feed
from api.http.errors import BrokerUnavailable
from api.http.identity import Identities
from api.http.limits.pacing import Company, Pacing
from api.http.limits.slots import Slots
from api.http.read_your_writes import ViewPositions
from api.jobs.handed_out import HandedOutBoard
from api.jobs.progress import ProgressBoard
from domain.recipes.catalog import Catalog
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.observability.watch import Watch
from services.settings import REQUESTS_AT_ONCE_MAX, REQUESTS_PER_S_MAX, UPLOAD_MB_MAX
from services.views.owned_views import OwnedViews
from services.views.rebuild import Rebuilt


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the API. Their creator opens and closes them, on the event loop that serves.

    `views` is for reading the rows of one owner; `database` is for data without an owner, like the length of a queue.
    `rebuild` builds a view again, by its name; None if that is not possible. `clock` is the time of every command.
    `watch` examines the installation; without one, only Postgres and NATS are checked. `is_compared`: whether this
    process has compared the ledger with LEDGER; until then it may be an older backup. `upload_bytes_max` limits the
    body of an upload, `requests_per_s_max` and `…_at_once_max` the requests of each owner.
    """

    ledger: Ledger
    database: Database
    views: OwnedViews
    blobs: Blobs
    catalog: Catalog
    broker: Broker
    admin_token: str
    rebuild: Callable[[str], Rebuilt] | None = None
    clock: Callable[[], datetime] = utc_now
    upload_bytes_max: int = UPLOAD_MB_MAX * 1024**2
    requests_per_s_max: float = REQUESTS_PER_S_MAX
    requests_at_once_max: int = REQUESTS_AT_ONCE_MAX
    watch: Watch | None = None
    is_compared: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class ApiState:
    """The parts, the identities, and what runs in the background: the event feed, progress, the views' positions.

    `watch` examines the installation. `receiving` limits the uploads that are on disk, `decoding` those that are in
    memory and decoded at a time. `company` knows which owners are active. Only one batch is written, and one is read,
    at a time: a large one keeps a processor busy.
    """

    parts: Parts
    identities: Identities
    feed: Feed
    progress: ProgressBoard
    positions: ViewPositions
    handed_out: HandedOutBoard
    receiving: Slots
    decoding: Slots
    company: Company
    batches_written: Pacing
    batches_read: Pacing
    watch: Watch


def require_broker(state: ApiState) -> None:
    """Refuse a write that could not be published now. Raises `BrokerUnavailable`."""
    if not state.parts.broker.connected:
        raise BrokerUnavailable


def state_of(connection: HTTPConnection) -> ApiState:
    """The running API behind this request."""
    return cast("ApiState", connection.app.state.running)
