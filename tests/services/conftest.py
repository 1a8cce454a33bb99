"""A story in a fresh database, as it happens, the views that follow it, and NATS: the session's or one to kill."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.database import Database
from services.ledger import Ledger
from services.messaging.broker import Broker
from tests.histories import Story, Views
from tests.services.beside import OwnNats, opened


@pytest.fixture
def story(ledger: Ledger) -> Story:
    """Each command at the present moment: Postgres compares with its own clock."""
    return Story(ledger, lambda: datetime.now(UTC))


@pytest.fixture
def views(database: Database, ledger: Ledger) -> Views:
    """Every view of the fresh database."""
    return Views(database, ledger)


@pytest.fixture
def own_nats() -> Iterator[OwnNats]:
    """Not running yet."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-nats-"))
    server = OwnNats(folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """Connected to the session's NATS."""
    async with opened(nats_url) as connected:
        yield connected
