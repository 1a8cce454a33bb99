"""A story in a fresh database, with a frozen clock, and the views that follow it."""

from collections.abc import Iterator

import pytest

from services.database import Database
from services.ledger import Ledger
from services.views.owned_views import OwnedViews, logging_in_as_role
from tests.conftest import Clock
from tests.histories import Story, Views


@pytest.fixture
def story(ledger: Ledger, clock: Clock) -> Story:
    """Each command a second after the one before."""
    return Story(ledger, clock.tick)


@pytest.fixture
def views(database: Database, ledger: Ledger) -> Views:
    """Every view of the fresh database."""
    return Views(database, ledger)


@pytest.fixture
def owned_views(dsn: str) -> Iterator[OwnedViews]:
    """The views of the fresh database, for one owner at a time."""
    with OwnedViews(logging_in_as_role(dsn)) as opened:
        yield opened
