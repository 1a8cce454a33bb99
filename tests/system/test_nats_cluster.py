"""A cluster of three NATS servers loses one, then its leader: nothing is lost, and work goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.databases import Databases
from tests.system.installation import Installation
from tests.system.nats_cluster import NatsCluster

pytestmark = pytest.mark.slow

Make = Callable[..., Installation]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three servers, started."""
    with NatsCluster(tmp_path) as running:
        yield running


def test_a_cluster_loses_a_server_and_then_its_leader_and_work_goes_on(
    cluster: NatsCluster, make_installation: Make, databases: Databases
) -> None:
    with (
        databases.migrated() as dsn,
        make_installation(
            DARKROOM_POSTGRES_DSN=dsn,
            DARKROOM_NATS_URL=cluster.services_url,
            DARKROOM_WORKER_NATS_URL=cluster.worker_url,
            DARKROOM_NATS_REPLICAS="3",
        ) as running,
    ):
        first = running.done(running.submit(quantity=3))
        assert first["status"] == "succeeded"
        leader = cluster.leader_of("WORK")
        other = next(node for node in cluster.nodes if node is not leader)

        jobs = [running.submit(quantity=3, params={"steps": 40}) for _ in range(4)]
        running.wait_until(lambda: bool(running.job(jobs[0]["id"])["progress"]), 60)
        other.kill()
        running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 60)
        jobs += [running.submit() for _ in range(4)]
        assert running.done(jobs[0])["status"] == "succeeded"
        other.child.spawn()
        cluster.wait_until(cluster.whole)

        leader = cluster.leader_of("WORK")
        assert leader is not None
        leader.kill()
        running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 60)
        jobs += [running.submit() for _ in range(4)]
        assert {running.done(job)["status"] for job in jobs} == {"succeeded"}
        leader.child.spawn()
        cluster.wait_until(cluster.whole)

        with psycopg.connect(dsn) as connection:
            (head,) = connection.execute("select max(notification_id) from ledger").fetchone()
            endings = connection.execute(
                "select count(*), count(distinct originator_id) from ledger where topic = 'job.succeeded.v1'"
            ).fetchone()
        assert endings == (13, 13)
        cluster.wait_until(
            lambda: cluster.last_sequence_of("LEDGER") == dict.fromkeys(("nats-1", "nats-2", "nats-3"), head)
        )
