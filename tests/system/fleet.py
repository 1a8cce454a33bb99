"""Every service as a process of its own with its own rights, on servers that were given: the shape of production."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import httpx
from psycopg.conninfo import make_conninfo

from services.crash_points import VARIABLE, Point
from services.embedded import EmbeddedServers
from tests.system.installation import eventually

ROLES = {
    "api": "darkroom_writer",
    "projector": "darkroom_projector",
    "relay": "darkroom_reader",
    "dispatcher": "darkroom_reader",
    "recorder": "darkroom_writer",
    "reaper": "darkroom_writer",
    "thumbnails": "darkroom_writer",
}
"""As docs/least-rights.md says. The worker has no database."""

SERVICES = (*ROLES, "worker")
TOKEN = "a-token-of-this-test-alone"
STOP_S_MAX = 30.0
READY_S_MAX = 90.0
DEATH_S_MAX = 90.0
COMMAND_S_MAX = 90.0


class Fleet:
    """One process per service. Use with `with`; leaves nothing running."""

    def __init__(self, environment: dict[str, str], own: dict[str, dict[str, str]], folder: Path) -> None:
        """`own`: what each service has in its environment in addition."""
        self._environment = environment
        self._own = own
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def of(cls, servers: EmbeddedServers, dsn: str, folder: Path, **settings: str) -> "Fleet":
        """On a migrated database and these servers; its files and logs lie in the folder."""
        own = {
            service: {
                "DARKROOM_POSTGRES_DSN": make_conninfo(dsn, user=role),
                "DARKROOM_NATS_URL": servers.services_nats_url,
            }
            for service, role in ROLES.items()
        }
        own["worker"] = {"DARKROOM_NATS_URL": servers.worker_nats_url}
        own["rebuild"] = own["projector"]  # whose the views are
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        environment = {
            **os.environ,
            "DARKROOM_BLOBS_URL": (folder / "blobs").as_uri(),
            "DARKROOM_DATA_DIR": str(folder / "data"),
            "DARKROOM_ADMIN_TOKEN": TOKEN,
            "DARKROOM_PORT": str(port),
            **settings,
        }
        return cls(environment, own, folder)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(STOP_S_MAX)

    def client(self) -> httpx.Client:
        """Of the API, as its administrator."""
        url = f"http://127.0.0.1:{self._environment['DARKROOM_PORT']}"
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, trust_env=False)

    def ready(self, client: httpx.Client) -> None:
        """Wait until the API is."""

        def is_ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, READY_S_MAX, self.logs)

    def give(self, service: str, **settings: str) -> None:
        """It has these in its environment from its next start on."""
        self._own[service].update(settings)

    def start(self, service: str, crash_at: Point | None = None) -> None:
        """`darkroom run SERVICE`; with a point, the process dies when it gets there."""
        self.processes[service] = self.spawn(service, ["run", service], crash_at)

    def spawn(
        self, name: str, command: list[str], crash_at: Point | None = None, **settings: str
    ) -> subprocess.Popen[bytes]:
        """`darkroom COMMAND` with what a service of that name, if it is one, has in its environment, and these."""
        armed = {} if crash_at is None else {VARIABLE: str(crash_at)}
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "api.cli", *command],
                stdout=log,
                stderr=log,
                env={**self._environment, **self._own.get(name, {}), **settings, **armed},
            )

    def done(self, name: str, command: list[str], **settings: str) -> None:
        """`darkroom COMMAND`, which has to end well."""
        assert self.spawn(name, command, **settings).wait(COMMAND_S_MAX) == 0, self.logs()

    def died(self, name: str, process: subprocess.Popen[bytes], at: Point) -> None:
        """Wait until the process is dead, and be sure that it died at this point and of nothing else."""
        eventually(lambda: process.poll() is not None, DEATH_S_MAX, self.logs)
        said = self._log(name).read_text().splitlines()
        assert (process.returncode, said[-1]) == (-signal.SIGKILL, f"killed at {at}"), self.logs()

    def stop_one(self, service: str) -> int:
        """SIGTERM; how it ended."""
        self.processes[service].send_signal(signal.SIGTERM)
        return self.processes[service].wait(STOP_S_MAX)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; how each ended."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {service: process.wait(STOP_S_MAX) for service, process in self.processes.items()}

    def logs(self) -> str:
        """What they said, for a failure."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in sorted(self.folder.glob("*.log")))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
