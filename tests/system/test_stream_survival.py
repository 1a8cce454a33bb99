"""Event streams while the APIs that send them, and what those stand on, are killed: real processes, and two of them."""

import asyncio
import random
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from services import users
from services.database import Database, Unavailable
from services.embedded import EmbeddedServers
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.migrate import migrate
from tests.api.streaming import Client, holds, told
from tests.system.fleet import Fleet
from tests.system.installation import eventually

pytestmark = pytest.mark.slow

OWNERS = ("ada", "bob", "cyd")
CLIENTS_OF_EACH = 4
ONE, TWO, PROJECTOR = "api", "api-two", "projector"
FAULTS = ((ONE,), ("postgres",), (TWO, "nats", PROJECTOR), (ONE, "postgres"), (ONE, TWO))
"""What is killed together; the next ones are once all of these work again."""

READY_S_MAX = 60.0
EVENTS_BETWEEN = 60
"""So much has to happen between two faults that clients are in the middle of something."""


@dataclass
class Beneath:
    """Two APIs and a projector on servers of their own, all of which can be killed."""

    fleet: Fleet
    dsn: str
    folder: Path
    ports: dict[str, int]

    def start(self, name: str) -> None:
        """A service; each API on its own port."""
        if name in self.ports:
            spawned = self.fleet.spawn("api", ["run", "api"], DARKROOM_PORT=str(self.ports[name]))
            self.fleet.processes[name] = spawned
        else:
            self.fleet.start(name)

    def kill(self, name: str) -> None:
        """SIGKILL. A server comes back by itself, a service is started again."""
        if name in self.fleet.processes:
            self.fleet.processes[name].kill()
            self.fleet.processes[name].wait(READY_S_MAX)
            self.start(name)
        else:
            self._server(name).kill()

    def ready(self) -> bool:
        """Whether both APIs can be used."""
        with suppress(httpx.TransportError):
            return all(
                httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
                for port in self.ports.values()
            )
        return False

    def _server(self, name: str) -> psutil.Process:
        needle = {"postgres": "postgres -D", "nats": "nats-server"}[name]
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # another one, that has just ended
                command = " ".join(child.cmdline())
                if needle in command and str(self.folder) in command:
                    return child
        raise AssertionError(f"{name} does not run")


@dataclass(frozen=True)
class Api:
    """Where one listens."""

    port: int


@pytest.fixture
def beneath() -> Iterator[Beneath]:
    """Everything runs."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    folder.chmod(0o711)  # Postgres may run as another user
    try:
        with EmbeddedServers(folder / "data") as servers, watched(servers):
            with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
                migrate(connection)
            ports = {name: free_port() for name in (ONE, TWO)}
            with Fleet.of(servers, servers.postgres_dsn, folder) as fleet:
                below = Beneath(fleet, servers.postgres_dsn, folder, ports)
                for name in (PROJECTOR, *ports):
                    below.start(name)
                eventually(below.ready, READY_S_MAX, fleet.logs)
                yield below
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def watched(servers: EmbeddedServers) -> Iterator[None]:
    """A server that is killed is started again, as `darkroom up` does it."""
    over = threading.Event()
    watcher = threading.Thread(target=servers.watch, args=(over,))
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def test_whoever_resumes_at_any_api_sees_the_ledgers_sequence_though_all_of_them_are_killed(
    beneath: Beneath,
) -> None:
    """Twelve clients of three owners hop between two APIs that die, as Postgres and NATS do."""
    chance = random.Random(5)
    apis = [Api(port) for port in beneath.ports.values()]
    with psycopg.connect(beneath.dsn, autocommit=True) as connection:
        keys = {owner: users.add(connection, owner).key for owner in OWNERS}
    with (
        Database(beneath.dsn) as database,
        Flusher(beneath.dsn) as flusher,
        Ledger(PostgresRecorder(database, flusher)) as ledger,
    ):
        clients = [
            Client(owner, key, apis, ledger.head, random.Random(chance.random()))
            for owner, key in keys.items()
            for _ in range(CLIENTS_OF_EACH)
        ]
        over, still = asyncio.Event(), asyncio.Event()
        flowing = [asyncio.create_task(flow(key, apis, chance, still)) for key in keys.values()]
        following = [asyncio.create_task(client.until(over)) for client in clients]
        try:
            for names in FAULTS:
                await until_grown(ledger, EVENTS_BETWEEN)
                for name in names:
                    await asyncio.to_thread(beneath.kill, name)
                await asyncio.to_thread(eventually, beneath.ready, READY_S_MAX, beneath.fleet.logs)
            await until_grown(ledger, EVENTS_BETWEEN)
            over.set()
            await asyncio.gather(*following)  # events go on, so that nobody waits for a comment
            still.set()
            accepted = {job for jobs in await asyncio.gather(*flowing) for job in jobs}
            expected = {owner: told(ledger, owner) for owner in OWNERS}
            await asyncio.gather(*(client.finish(expected[client.owner][-1]["position"]) for client in clients))
        finally:
            over.set()
            still.set()
            await asyncio.gather(*flowing, *following, return_exceptions=True)
    queued = [item["stream"] for told_to in expected.values() for item in told_to if item["type"] == "job.queued"]
    assert len(queued) == len(set(queued))
    assert accepted <= set(queued)
    sessions = [session for client in clients for session in client.sessions]
    for session in sessions:
        holds(session, expected[session.owner])
    assert len(sessions) > 5 * len(clients)
    assert sum(1 for session in sessions if session.after is None and session.ids) > 0
    assert sum(1 for session in sessions if session.after == 0 and session.ids) > len(clients)


async def flow(key: str, apis: Sequence[Api], chance: random.Random, over: asyncio.Event) -> list[str]:
    """Jobs of one owner, each under a key until it is accepted; some are canceled. Those that were accepted."""
    accepted: list[str] = []
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False) as http:
        while not over.is_set():
            url = f"http://127.0.0.1:{chance.choice(apis).port}/v1/jobs"
            body = {"job_type": "sdxl_image_fast", "prompt": "a fox", "quantity": (1, 3)[len(accepted) % 2]}
            try:
                answer = await http.post(url, json=body, headers={"Idempotency-Key": f"job-{len(accepted)}"})
                if answer.status_code in {200, 202}:
                    accepted.append(answer.json()["id"])
                    if chance.random() < 0.3:
                        await http.post(f"{url}/{accepted[-1]}/cancel")
                    continue
                assert answer.status_code in {429, 503}, answer.text
            except httpx.TransportError:
                pass  # it died with the request, which is sent again
            await asyncio.sleep(0.05)
    return accepted


async def until_grown(ledger: Ledger, events: int) -> None:
    """Wait until so much more has happened."""
    wanted: int | None = None
    async with asyncio.timeout(READY_S_MAX):
        while True:
            with suppress(Unavailable):
                head = await asyncio.to_thread(ledger.head)
                wanted = head + events if wanted is None else wanted
                if head >= wanted:
                    return
            await asyncio.sleep(0.05)
