"""What is killed comes back, and nothing is lost or counted twice."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.installation import Installation

pytestmark = pytest.mark.slow

Make = Callable[..., Installation]

QUICK = {"DARKROOM_LEASE_S": "3", "DARKROOM_HEARTBEAT_S": "1"}


def ended_once(history: list[dict[str, Any]]) -> None:
    """One terminal event for the job, and one for each asset."""
    endings = Counter(
        item["stream"]
        for item in history
        if item["type"]
        in {
            "job.succeeded",
            "job.partially_succeeded",
            "job.failed",
            "job.canceled",
            "asset.completed",
            "asset.failed",
            "asset.canceled",
        }
    )
    assert set(endings.values()) == {1}
    assert len(endings) == len({item["stream"] for item in history})


def test_a_worker_killed_in_mid_job_costs_an_attempt_and_nothing_else(make_installation: Make):
    with make_installation(**QUICK) as running:
        job = running.submit(quantity=3, params={"steps": 60, "width": 256, "height": 256})
        running.wait_until(lambda: bool(running.job(job["id"])["progress"]), 60)
        running.worker().kill()
        done = running.job_when(job["id"], "succeeded", "failed")
        assert (done["status"], done["attempt"]) == ("succeeded", 2)
        history = running.history(job["id"])
        ended_once(history)
        assert [item["data"]["reason"] for item in history if item["type"] == "job.requeued"] == ["worker_lost"]
        completed = [item for item in history if item["type"] == "asset.completed"]
        assert {item["data"]["attempt"] for item in completed} == {2}
        assert len(completed) == 3


def test_ctrl_c_gives_the_job_back_and_the_next_start_ends_it(make_installation: Make):
    running = make_installation()
    with running:
        job = running.submit(quantity=3, params={"steps": 60, "width": 256, "height": 256})
        running.wait_until(lambda: bool(running.job(job["id"])["progress"]), 60)
        tree = running.tree()
        assert len(tree) >= 4  # itself, Postgres, NATS, the worker
        assert running.interrupt() == 0
        assert not [process for process in tree if process.is_running() and process.status() != "zombie"]
        running.start()
        done = running.job_when(job["id"], "succeeded", "failed")
        assert done["status"] == "succeeded"
        history = running.history(job["id"])
        ended_once(history)
        assert [item["data"]["reason"] for item in history if item["type"] == "job.requeued"] == ["worker_stopping"]


def test_postgres_and_nats_killed_in_mid_job_are_waited_out(make_installation: Make):
    with make_installation(**QUICK) as running:
        job = running.submit(quantity=3, params={"steps": 60, "width": 256, "height": 256})
        running.wait_until(lambda: bool(running.job(job["id"])["progress"]), 60)
        for needle in ("postgres -D", "nats-server"):
            killed = running.process(needle)
            killed.kill()
            running.wait_until(lambda killed=killed: not killed.is_running() or killed.status() == "zombie", 20)
            running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 60)
        done = running.job_when(job["id"], "succeeded", "failed")
        assert done["status"] == "succeeded"
        ended_once(running.history(job["id"]))
        other = running.submit()
        assert running.job_when(other["id"], "succeeded", "failed")["status"] == "succeeded"


def test_a_missing_model_fails_its_jobs_and_nothing_else(make_installation: Make):
    with make_installation(DARKROOM_MODELS="sdxl-demo=/nowhere/at/all") as running:
        job = running.submit()
        done = running.job_when(job["id"], "succeeded", "failed")
        assert done["status"] == "failed"
        assert done["error"]["error_class"] == "model_unavailable"
        assert "/nowhere/at/all" in done["error"]["message"]
        assert running.request("GET", "/readyz").status_code == 200
        said = (running.folder / "worker.log").read_text()
        assert "Traceback" not in said
        assert "/nowhere/at/all" in said


def test_a_worker_with_bad_settings_stays_off_and_says_so_once(make_installation: Make):
    with make_installation(DARKROOM_MODELS="garbage") as running:
        running.wait_until(lambda: "stays off until Darkroom starts again" in running.log.read_text(), 120)
        said = running.log.read_text()
        assert "DARKROOM_MODELS" in said
        assert said.count("stays off") == said.count("its log is") == 1
        assert running.request("GET", "/readyz").status_code == 200
