"""The installation under test, in the shape of production: every service a process with its own rights, two workers.

The servers are supervised as in `darkroom up`; the processes are, as systemd would, started again when they end.
"""

import asyncio
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services import users
from services.embedded import EmbeddedServers
from services.embedded.child import Child
from services.migrate import migrate
from tests.soak.lines import Line, Streams
from tests.system.fleet import ROLES
from tests.system.invariants import Place

"""As docs/least-rights.md says."""

SECONDS: Final = ("relay", "dispatcher", "recorder", "reaper", "thumbnails")
"""A second one of each of these runs too, all in one process: several may run."""

APIS: Final = ("api", "api-two")

SERVICES: Final = (*ROLES, "api-two", "second")
WORKERS: Final = ("one", "two")
WRONG: Final = "two"
"""The worker whose clock is wrong."""

LEASE_S: Final = 3.0
HEARTBEAT_S: Final = 1.0

TOKEN: Final = "a-token-of-this-soak-alone"
LOOK_S: Final = 0.2
ROOT: Final = Path(__file__).parents[2]
SDXL_DEMO: Final = ROOT / "gpu_worker" / "demo" / "weights" / "sdxl-demo"


class Fleet:
    """Servers, lines and processes. Open it on the loop that it is used on; leaves nothing running."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        """`folder`: with a short path, as a socket is made there."""
        self._folder = folder
        self.data = folder / "data"
        self._servers = EmbeddedServers(self.data)
        self._watching = threading.Event()
        self._watcher: threading.Thread | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._clock = folder / "clock"
        self._clock.write_text(str(rng.choice((-1, 1)) * rng.uniform(60, 86_400)))
        self._held: set[str] = set()
        self.children: dict[str, Child] = {}
        self.ended = 0
        self.postgres = Line(self._to_postgres)
        self.nats = Line(self._to_nats)
        self.worker_lines = {name: Line(self._to_nats) for name in WORKERS}
        self._ports = {name: _free_port() for name in APIS}

    @property
    def urls(self) -> list[str]:
        """Of each API."""
        return [f"http://127.0.0.1:{port}" for port in self._ports.values()]

    @property
    def place(self) -> Place:
        """What the checks look at, past every line."""
        return Place(self._servers.postgres_dsn, self._servers.nats_url, self.data / "blobs")

    @property
    def logs(self) -> list[Path]:
        """Of every service and worker."""
        return sorted((self._folder / "logs").glob("*.log"))

    async def open(self) -> None:
        """Start everything; the API may need a moment more."""
        (self._folder / "logs").mkdir()
        await asyncio.to_thread(self._servers.start)
        with psycopg.connect(self._servers.postgres_dsn, autocommit=True) as connection:
            migrate(connection)
        (self.data / "blobs").mkdir()
        (self.data / "postgres.dsn").write_text(f"{self._servers.postgres_dsn}\n")
        (self.data / "admin.token").write_text(TOKEN)
        self._watcher = threading.Thread(target=self._servers.watch, args=(self._watching,))
        self._watcher.start()
        for line in (self.postgres, self.nats, *self.worker_lines.values()):
            await line.open()
        for name in SERVICES:
            self._make(name, self._service(name), self._environment_of_service(name))
        for name in WORKERS:
            module = ["tests.soak.wrong_clock", str(self._clock)] if name == WRONG else ["gpu_worker"]
            self._make(f"worker-{name}", ["-m", *module], self._environment_of_worker(name))
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        if self._supervisor is not None:
            self._supervisor.cancel()
        for child in self.children.values():
            child.send(signal.SIGCONT)
            child.end([(signal.SIGKILL, 10.0)])
        for line in (self.postgres, self.nats, *self.worker_lines.values()):
            await line.close()
        self._watching.set()
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.join)
        await asyncio.to_thread(self._servers.stop)

    def add_user(self, name: str) -> str:
        """As `darkroom users add` does it; the key."""
        with psycopg.connect(self._servers.postgres_dsn, autocommit=True) as connection:
            return users.add(connection, name).key

    def hold(self, names: Iterable[str]) -> None:
        """End these processes, and let none of them start until `start_again`."""
        self._held |= set(names)
        for name in self._held:
            self.children[name].end([(signal.SIGKILL, 10.0)])

    def start_again(self) -> None:
        """Whatever was held starts again."""
        self._held.clear()

    def server(self, name: str) -> psutil.Process | None:
        """The process of `postgres` or `nats-server`, if it runs now: ours, and not that of another folder."""
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                if process.name() == name and str(self._folder) in " ".join(process.cmdline()):
                    return process
        return None

    def lose_nats_store(self) -> None:
        """While it runs, so that nothing of it is there when the server comes back."""
        store = self.data / "nats"
        store.rename(store.with_name(f"nats.lost-{len(list(store.parent.glob('nats.lost-*')))}"))

    def move_clock(self, seconds: float) -> None:
        """The wrong clock jumps."""
        self._clock.write_text(str(seconds))
        self.children[f"worker-{WRONG}"].send(signal.SIGUSR1)

    def _make(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
        command = [sys.executable, *arguments]
        log = self._folder / "logs" / f"{name}.log"
        self.children[name] = Child(command, log, death_signal=signal.SIGKILL, environment=given)
        self.children[name].spawn()

    def _service(self, name: str) -> list[str]:
        services = {"second": SECONDS, "api-two": ("api",)}
        return ["-m", "api.cli", "run", *services.get(name, (name,))]

    def _environment_of_service(self, name: str) -> dict[str, str]:
        role = ROLES.get(name, "darkroom_writer")
        return self._environment() | {
            "DARKROOM_POSTGRES_DSN": make_conninfo(
                self._servers.postgres_dsn,
                host="127.0.0.1",
                port=self.postgres.port,
                user=role,
                sslmode="disable",
                gssencmode="disable",
            ),
            "DARKROOM_NATS_URL": _by_way_of(self.nats, self._servers.services_nats_url),
            "DARKROOM_ADMIN_TOKEN": TOKEN,
            "DARKROOM_PORT": str(self._ports.get(name, 0)),
            "DARKROOM_LEASE_S": str(LEASE_S),
        }

    def _environment_of_worker(self, name: str) -> dict[str, str]:
        """The one with the wrong clock lacks a model, so that jobs fail there and tell its time."""
        models = {"DARKROOM_MODELS": f"sdxl-demo={SDXL_DEMO},wan-demo=/nowhere"} if name == WRONG else {}
        return (
            self._environment()
            | models
            | {
                "DARKROOM_NATS_URL": _by_way_of(self.worker_lines[name], self._servers.worker_nats_url),
                "DARKROOM_WORKER_NAME": name,
                "DARKROOM_HEARTBEAT_S": str(HEARTBEAT_S),
                "OMP_NUM_THREADS": "1",
            }
        )

    def _environment(self) -> dict[str, str]:
        return {
            "DARKROOM_BLOBS_URL": (self.data / "blobs").as_uri(),
            "DARKROOM_DATA_DIR": str(self.data),
        }

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for name, child in self.children.items():
                if not child.running and name not in self._held:
                    self.ended += 1
                    child.spawn()

    async def _to_postgres(self) -> Streams:
        parts = conninfo_to_dict(self._servers.postgres_dsn)
        return await asyncio.open_unix_connection(f"{parts['host']}/.s.PGSQL.{parts['port']}")

    async def _to_nats(self) -> Streams:
        parts = urlsplit(self._servers.nats_url)
        return await asyncio.open_connection(parts.hostname, parts.port)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _by_way_of(line: Line, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{line.port}").geturl()
