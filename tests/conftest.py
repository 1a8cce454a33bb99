"""What every test may ask for: real servers for the session, a fresh database for itself, a frozen clock."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import psycopg
import pytest

from services.database import Database
from services.embedded import EmbeddedServers
from services.ledger import InMemoryRecorder, Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.observability.parking import parked, unpark
from tests.databases import Databases

# As in a shell where Darkroom is installed: commands that are printed are then called `darkroom`, without a path.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

if "PYTEST_XDIST_WORKER" in os.environ:  # several that compute: threads that wait for each other would fill all cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes for the tests: most of them wait for a server, a disk or a child half of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first: those that are left over in the end should be short."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class Clock:
    """Time stands still until it learns to go on. Call it for the present moment."""

    def __init__(self) -> None:
        self.now = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The present moment."""
        return self.now

    def tick(self, seconds: float = 1.0) -> datetime:
        """So much later; the new present moment."""
        self.now += timedelta(seconds=seconds)
        return self.now


@pytest.fixture(autouse=True)
def nothing_is_parked() -> None:
    """What a service passed over is remembered by the process, which runs many tests."""
    for one in parked():
        unpark(one.service, one.item)


@pytest.fixture
def clock() -> Clock:
    """A frozen clock."""
    return Clock()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """The servers that `darkroom up` would start. Their folder has a short path: a socket's path is bounded.

    Postgres does not wait for the disk: what is killed here are processes, and never the machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    try:
        with EmbeddedServers(folder) as started:
            with psycopg.connect(started.postgres_dsn, autocommit=True) as connection:
                connection.execute("alter system set fsync = off")
                connection.execute("select pg_reload_conf()")
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def databases(servers: EmbeddedServers) -> Databases:
    """Where fresh databases come from."""
    return Databases(servers.postgres_dsn)


@pytest.fixture
def dsn(databases: Databases) -> Iterator[str]:
    """A migrated database without a row."""
    with databases.migrated() as made:
        yield made


@pytest.fixture
def empty_dsn(databases: Databases) -> Iterator[str]:
    """A database that no migration has touched."""
    with databases.empty() as made:
        yield made


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """A pool on the fresh database."""
    with Database(dsn) as opened:
        yield opened


@pytest.fixture
def flusher(dsn: str) -> Iterator[Flusher]:
    """The group commit of the fresh database."""
    with Flusher(dsn) as started:
        yield started


@pytest.fixture
def recorder(database: Database, flusher: Flusher) -> Iterator[PostgresRecorder]:
    """The recorder of the fresh database."""
    made = PostgresRecorder(database, flusher)
    yield made
    made.datastore.close()


@pytest.fixture
def ledger(recorder: PostgresRecorder) -> Iterator[Ledger]:
    """An empty ledger in Postgres."""
    with Ledger(recorder) as opened:
        yield opened


@pytest.fixture
def memory_ledger() -> Iterator[Ledger]:
    """An empty ledger in memory."""
    with Ledger(InMemoryRecorder()) as opened:
        yield opened


@pytest.fixture
def nats_url(servers: EmbeddedServers) -> str:
    """The session's NATS, with no stream in it."""
    delete_streams(servers.nats_url)
    return servers.nats_url


def delete_streams(url: str) -> None:
    """As if nobody had used the server yet."""
    with ThreadPoolExecutor(max_workers=1) as thread:  # next to the test's own event loop
        thread.submit(asyncio.run, _delete_streams(url)).result()


async def _delete_streams(url: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(stream.config.name or "")
    await client.close()
