"""Every service as a process of its own with its own rights, on servers that were given: the shape of production."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from services.embedded import EmbeddedServers
from services.migrate import migrate
from tests.system.fleet import SERVICES, Fleet
from tests.system.installation import Installation, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(dsn: str, nats_url: str, servers: EmbeddedServers, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.of(servers, dsn, tmp_path) as made:
        yield made


def test_eight_processes_do_what_one_does(fleet: Fleet):
    for service in SERVICES:
        fleet.start(service)
    client = fleet.client()

    def ended(job_id: str) -> bool:
        return client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"

    def has_thumbnails(job_id: str) -> bool:
        urls = [asset["thumbnail_url"] for asset in client.get(f"/v1/jobs/{job_id}").json()["assets"]]
        return all(urls) and all(client.get(url).headers["Content-Type"] == "image/webp" for url in urls)

    with client:
        fleet.ready(client)
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
        fleet.ready(client)
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
