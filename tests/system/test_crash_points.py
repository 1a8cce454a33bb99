"""A process that is killed at any named point, and started again, costs nothing that the ledger promised."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded import EmbeddedServers
from tests.conftest import delete_streams
from tests.databases import Databases
from tests.gpu_worker.hosting import TOKEN, Hosting
from tests.system.crash_matrix import SERVICE_CELLS, Cell
from tests.system.crash_scene import HEARTBEAT_S, LEASE_S, Scene
from tests.system.fleet import SERVICES, Fleet
from tests.system.invariants import what_is_wrong

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def scene(servers: EmbeddedServers, databases: Databases) -> Iterator[Scene]:
    """All services, each a process, on one ledger for the whole matrix."""
    delete_streams(servers.nats_url)
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    settings = {
        "DARKROOM_LEASE_S": f"{LEASE_S:g}",
        "DARKROOM_HEARTBEAT_S": f"{HEARTBEAT_S:g}",
        "DARKROOM_POOLS": "sdxl",
        # What renders is no matter here, and a worker that imports no torch is there in a second.
        "DARKROOM_MODELS": "sdxl-demo=replicate:darkroom/demo",
        "REPLICATE_API_TOKEN": TOKEN,
    }
    with (
        databases.migrated() as dsn,
        Hosting() as hosting,
        Fleet.of(servers, dsn, folder, DARKROOM_REPLICATE_URL=hosting.url, **settings) as fleet,
    ):
        for service in SERVICES:
            fleet.start(service)
        made = Scene(fleet, dsn, servers, hosting)
        with made.client:
            fleet.ready(made.client)
            made.until(made.has_consumers)
            made.shorten_ack_wait()
            yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("cell", SERVICE_CELLS, ids=str)
def test_a_service_killed_at_a_point_costs_nothing(scene: Scene, cell: Cell) -> None:
    fleet = scene.fleet
    cell.act.before(scene)
    fleet.stop_one(cell.service)
    fleet.start(cell.service, cell.at)
    try:
        if cell.service == "api":
            fleet.ready(scene.client)
        cell.act.during(scene)
        fleet.died(cell.service, fleet.processes[cell.service], cell.at)
    finally:
        fleet.processes[cell.service].kill()
        fleet.processes[cell.service].wait()
        fleet.start(cell.service)
    fleet.ready(scene.client)
    scene.say_again()
    cell.act.after(scene)
    scene.come_to_rest()
    found = what_is_wrong(scene.place, scene.said)
    assert found.wrong == []
    assert not found.excepted
    ordered = Counter(prediction.inputs["seed"] for prediction in scene.hosting.predictions.values())
    assert set(ordered.values()) <= {1}, "an output was paid for twice"
