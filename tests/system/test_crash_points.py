"""A process that is killed at any named point, and started again, costs nothing that the ledger promised."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services.crash_points import Point
from services.database import Database
from services.embedded import EmbeddedServers
from services.ledger.verification import verify_chain
from services.migrate import all_migrations
from tests.conftest import delete_streams
from tests.databases import Databases
from tests.gpu_worker.hosting import TOKEN, Hosting
from tests.services.older_backup import backup_of
from tests.services.pictures import png
from tests.system.crash_acts import HOSTED, LOST_WORKERS
from tests.system.crash_matrix import (
    IMPORT_POINTS,
    MIGRATION_POINTS,
    REBUILD_POINTS,
    RESTORED_POINTS,
    SERVICE_CELLS,
    Cell,
)
from tests.system.crash_scene import HEARTBEAT_S, LEASE_S, Scene
from tests.system.fleet import SERVICES, Fleet
from tests.system.invariants import Found, facts_of, what_is_wrong
from tests.system.stored import files as stored_files

pytestmark = pytest.mark.slow

OURS = """
select count(*) from pg_tables where schemaname not like 'pg\\_%' and schemaname <> 'information_schema'
"""


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
        "DARKROOM_MODELS": f"sdxl-demo={HOSTED['Replicate']}",
        "REPLICATE_API_TOKEN": TOKEN,
        "FAL_KEY": TOKEN,
    }
    with (
        databases.migrated() as dsn,
        Hosting() as hosting,
        Fleet.of(
            servers, dsn, folder, DARKROOM_REPLICATE_URL=hosting.url, DARKROOM_FAL_URL=hosting.url, **settings
        ) as fleet,
    ):
        for service in SERVICES:
            fleet.start(service)
        made = Scene(fleet, dsn, servers, hosting)
        with made.client:
            fleet.ready(made.client)
            made.until(made.has_consumers)
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
    except BaseException:
        scene.go_on("reaper", "recorder")  # what is wrong here shall cost the rows that follow nothing
        raise
    finally:
        fleet.processes[cell.service].kill()
        fleet.processes[cell.service].wait()
        fleet.start(cell.service)
    fleet.ready(scene.client)
    scene.say_again()
    cell.act.after(scene)
    holds(scene)


def holds(scene: Scene) -> None:
    """Everything, once all is at rest."""
    scene.come_to_rest()
    found = what_is_wrong(scene.place, scene.said)
    assert found.wrong == []
    assert not found.excepted
    known = [one for one in scene.hosting.predictions.values() if one.id not in scene.paid_twice]
    ordered = Counter(prediction.inputs["seed"] for prediction in known)
    assert set(ordered.values()) <= {1}, "an output was paid for twice"


@pytest.mark.parametrize("point", REBUILD_POINTS)
def test_a_rebuild_killed_at_a_point_leaves_the_live_view_and_the_next_one_ends(scene: Scene, point: Point) -> None:
    scene.submit()
    scene.fleet.died("rebuild", scene.fleet.spawn("rebuild", ["rebuild", "jobs"], point), point)
    assert scene.client.get("/v1/jobs").is_success
    scene.fleet.done("rebuild", ["rebuild", "jobs"])
    holds(scene)


@pytest.mark.parametrize("point", MIGRATION_POINTS)
def test_a_migration_killed_at_a_point_has_done_nothing(scene: Scene, databases: Databases, point: Point) -> None:
    with databases.empty() as dsn:
        fleet, database = scene.fleet, {"DARKROOM_POSTGRES_DSN": dsn}
        fleet.died("migrate", fleet.spawn("migrate", ["migrate"], point, **database), point)
        with psycopg.connect(dsn) as connection:
            assert connection.execute(OURS).fetchone() == (0,)
        fleet.done("migrate", ["migrate"], **database)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("select count(*) from migrations").fetchone() == (len(all_migrations()),)


@pytest.mark.parametrize("point", IMPORT_POINTS)
def test_an_import_killed_at_a_point_has_appended_all_or_nothing(
    scene: Scene, databases: Databases, tmp_path: Path, point: Point
) -> None:
    """The first bundle brings an upload, the second one its deletion, and more."""
    fleet, bundle, files = scene.fleet, str(tmp_path / "all.bundle"), tmp_path / "blobs"
    source = {"DARKROOM_POSTGRES_DSN": scene.place.dsn}
    scene.upload(png(colour=(len(scene.uploads), 77, 77)))
    fleet.done("export", ["export", "--all", bundle], **source)
    before = scene.facts()
    with databases.migrated() as dsn:
        there = {"DARKROOM_POSTGRES_DSN": dsn, "DARKROOM_BLOBS_URL": files.as_uri()}
        fleet.done("import", ["import", bundle], **there)
        scene.call("DELETE", f"/v1/uploads/{scene.uploads[-1]}")
        fleet.done("export", ["export", "--all", "--force", bundle], **source)
        fleet.died("import", fleet.spawn("import", ["import", bundle], point, **there), point)
        facts = scene.facts()
        assert facts_of(dsn) == (facts if point is Point.IMPORT_AFTER_COMMIT else before)
        fleet.done("import", ["import", bundle], **there)
        assert facts_of(dsn) == facts
        found = Found()
        assert list(stored_files(files, facts, found.excepted)) == []
        assert not found.excepted
        with Database(dsn) as database:
            assert verify_chain(database).misfit is None


@pytest.mark.parametrize("point", RESTORED_POINTS)
def test_a_restore_killed_at_a_point_is_ended_by_the_next_run_and_nothing_is_lost(scene: Scene, point: Point) -> None:
    """All services run meanwhile; what was accepted after the backup is there again, and is worked on."""
    fleet, owner = scene.fleet, {"DARKROOM_POSTGRES_DSN": scene.place.dsn, "DARKROOM_NATS_URL": scene.place.nats_url}
    scene.submit()
    scene.come_to_rest()
    with backup_of(scene.place.dsn) as backup:
        scene.submit(quantity=3)
        scene.come_to_rest()
        scene.submit(job_type="video_fast")  # nobody takes it: it waits, and is there again
        scene.until(scene.stream_is_whole)
        backup.restore()
        fleet.died("restored", fleet.spawn("restored", ["restored"], point, **owner), point)
        fleet.done("restored", ["restored"], **owner)
    scene.cancel(scene.said[-1].job_id)
    holds(scene)


def test_a_sweeper_that_fails_does_not_keep_the_reaper_from_lost_workers(scene: Scene) -> None:
    scene.rows("revoke update on file_sweeps from darkroom_writer")
    try:
        scene.fleet.stop_one("reaper")
        scene.fleet.start("reaper")
        LOST_WORKERS.during(scene)
        LOST_WORKERS.after(scene)
    finally:
        scene.rows("grant update on file_sweeps to darkroom_writer")
    holds(scene)


def test_afterwards_nothing_is_left_behind(scene: Scene) -> None:
    """Leases of dead workers go after an hour, counts of tries with their thumbnails; then the shelves are empty."""
    scene.come_to_rest()
    scene.rows("update leases set expires_at = expires_at - interval '2 hours'")
    left = "select (select count(*) from leases), (select count(*) from thumbnail_tries)"
    scene.until(lambda: scene.rows(left) == [(0, 0)])
    assert scene.rows("select count(*) from parked_events") == [(0,)]
    assert scene.fleet.stop() == dict.fromkeys(SERVICES, 0), scene.fleet.logs()
