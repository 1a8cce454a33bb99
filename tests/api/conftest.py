"""The API on real parts: in the test's own event loop, or behind a real server where streams must flow."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
import pytest_asyncio

from api.app import Parts, create_app
from benchmarks import crowd
from domain.recipes.catalog import Catalog
from projections import ALL
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.migrate import migrate
from services.settings import Settings
from services.views.owned_views import OwnedViews, logging_in_as_role
from services.views.projector import Projector
from tests.api.serving import BLOBS_URL, TOKEN, AServer, Site, until
from tests.conftest import Clock
from tests.databases import Databases


@pytest.fixture
def catalog() -> Catalog:
    """The packaged catalog."""
    return Settings().catalog()


@pytest.fixture(scope="session")
def crowd_dsn(databases: Databases) -> Iterator[str]:
    """A database whose views hold 100,000 assets of `admin` among others'; its ledger is empty. Only to be read."""
    with databases.empty() as made:
        with psycopg.connect(made, autocommit=True) as connection:
            migrate(connection)
        crowd.fill(made)
        yield made


@pytest_asyncio.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """A connection to the session's NATS."""
    opened = Broker(nats_url, "test-api")
    await opened.open()
    await opened.hear_wakes()
    await until(lambda: opened.connected)
    yield opened
    await opened.close()


@pytest.fixture
def flusher(dsn: str, broker: Broker) -> Iterator[Flusher]:
    """The group commit of the API's process: it wakes whoever follows the ledger."""
    with Flusher(dsn, broker.wake) as started:
        yield started


@pytest.fixture
def owned_views(dsn: str) -> Iterator[OwnedViews]:
    """The views of the fresh database, for one owner at a time."""
    with OwnedViews(logging_in_as_role(dsn)) as opened:
        yield opened


@pytest.fixture
def parts(
    database: Database,
    owned_views: OwnedViews,
    recorder: PostgresRecorder,
    broker: Broker,
    catalog: Catalog,
    clock: Clock,
) -> Parts:
    """What `darkroom run api` would be given, with a clock that stands still."""
    return Parts(
        ledger=Ledger(recorder),
        database=database,
        views=owned_views,
        blobs=Blobs(BLOBS_URL),
        catalog=catalog,
        broker=broker,
        admin_token=TOKEN,
        clock=clock,
        requests_per_s_max=10_000,
        requests_at_once_max=10_000,
    )


@pytest.fixture
def project(database: Database, ledger: Ledger) -> Callable[[], None]:
    """Brings every view to the ledger's end."""
    projector = Projector(database, ledger, ALL)

    def bring() -> None:
        while projector.step():
            pass

    bring()
    return bring


@pytest_asyncio.fixture
async def http(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has the token."""
    app = create_app(parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://darkroom", headers=bearer()) as client,
    ):
        yield client


@pytest.fixture
def site(http: httpx.AsyncClient, ledger: Ledger, project: Callable[[], None], parts: Parts, clock: Clock) -> Site:
    """The API with a worker next to it."""
    return Site(http, ledger, project, parts, clock)


@pytest_asyncio.fixture
async def server(parts: Parts, dsn: str, project: Callable[[], None]) -> AsyncIterator[AServer]:
    """The API behind uvicorn, on a port of this machine, in this event loop."""
    async with serving(parts) as served:
        yield served


@asynccontextmanager
async def serving(parts: Parts) -> AsyncIterator[AServer]:
    """Serve until the block ends."""
    served = AServer(create_app(parts))
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


def bearer() -> dict[str, str]:
    """The header that lets one in."""
    return {"Authorization": f"Bearer {TOKEN}"}
