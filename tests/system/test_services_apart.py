"""Every service as a process of its own with its own rights, on servers that were given: the shape of production."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from services.embedded import EmbeddedServers
from services.migrate import migrate
from tests.system.installation import Installation, eventually

pytestmark = pytest.mark.timeout(300)

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


class Fleet:
    """One process per service."""

    def __init__(self, environment: dict[str, str], own: dict[str, dict[str, str]], folder: Path) -> None:
        """`own`: what each service has in its environment besides."""
        self._environment = environment
        self._own = own
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """`darkroom run SERVICE`."""
        with (self._folder / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "run", service],
                stdout=log,
                stderr=log,
                env={**self._environment, **self._own[service]},
            )

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; how each ended."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {service: process.wait(30) for service, process in self.processes.items()}

    def logs(self) -> str:
        """What they said, for a failure."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in sorted(self._folder.glob("*.log")))


@pytest.fixture
def url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def fleet(dsn: str, nats_url: str, servers: EmbeddedServers, url: str, tmp_path: Path) -> Iterator[Fleet]:
    own = {
        service: {
            "DARKROOM_POSTGRES_DSN": make_conninfo(dsn, user=role),
            "DARKROOM_NATS_URL": servers.services_nats_url,
        }
        for service, role in ROLES.items()
    }
    own["worker"] = {"DARKROOM_NATS_URL": servers.worker_nats_url}
    environment = {
        **os.environ,
        "DARKROOM_BLOBS_URL": (tmp_path / "blobs").as_uri(),
        "DARKROOM_DATA_DIR": str(tmp_path / "data"),
        "DARKROOM_ADMIN_TOKEN": TOKEN,
        "DARKROOM_PORT": url.rpartition(":")[2],
    }
    made = Fleet(environment, own, tmp_path)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait(10)


def test_eight_processes_do_what_one_does(fleet: Fleet, url: str):
    for service in SERVICES:
        fleet.start(service)
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)

    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ended(job_id: str) -> bool:
        return client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"

    def has_thumbnails(job_id: str) -> bool:
        urls = [asset["thumbnail_url"] for asset in client.get(f"/v1/jobs/{job_id}").json()["assets"]]
        return all(urls) and all(client.get(url).headers["Content-Type"] == "image/webp" for url in urls)

    with client:
        eventually(ready, 60, fleet.logs)
        refused = client.post("/v1/admin/projections/library/rebuild")
        assert (refused.status_code, refused.json()["code"]) == (503, "rebuild_unavailable")
        first = client.post("/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "a fox", "quantity": 3}).json()
        eventually(lambda: ended(first["id"]), 120, fleet.logs)
        eventually(lambda: has_thumbnails(first["id"]), 60, fleet.logs)
        # Each is killed in turn and started again; the next job does not mind.
        for service in ("projector", "dispatcher", "recorder", "relay", "reaper", "thumbnails", "api"):
            fleet.processes[service].kill()
            fleet.processes[service].wait(10)
            fleet.start(service)
        eventually(ready, 60, fleet.logs)
        second = client.post("/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "a fox"}).json()
        eventually(lambda: ended(second["id"]), 120, fleet.logs)
        eventually(lambda: has_thumbnails(second["id"]), 60, fleet.logs)
    assert fleet.stop() == dict.fromkeys(SERVICES, 0), fleet.logs()


def test_while_servers_are_gone_the_api_says_so_and_then_goes_on(
    make_installation: Callable[..., Installation],
):
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    servers = EmbeddedServers(folder)
    servers.start()
    given = {"DARKROOM_POSTGRES_DSN": servers.postgres_dsn, "DARKROOM_NATS_URL": servers.nats_url}
    try:
        with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
            migrate(connection)
        with make_installation(**given) as running:
            accepted = [running.submit() for _ in range(3)]
            servers.stop()
            running.wait_until(lambda: running.request("GET", "/readyz").status_code == 503, 20)
            refused = running.request("POST", "/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "a fox"})
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert running.request("GET", "/healthz").status_code == 200
            servers.start()
            running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 60)
            for job in accepted:
                assert running.job_when(job["id"], "succeeded", "failed")["status"] == "succeeded"
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_up_uses_the_servers_that_it_is_given(make_installation: Callable[..., Installation], dsn: str, nats_url: str):
    with make_installation(DARKROOM_POSTGRES_DSN=dsn, DARKROOM_NATS_URL=nats_url) as running:
        job = running.submit()
        assert running.job_when(job["id"], "succeeded", "failed")["status"] == "succeeded"
        assert not {"postgres", "nats-server"} & {process.name() for process in running.tree()}
        assert running.interrupt() == 0
