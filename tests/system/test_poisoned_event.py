"""An event that a view cannot take, from its parking to its release, with the real processes: nothing is rebuilt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services.embedded import EmbeddedServers
from tests.system.fleet import Fleet
from tests.system.installation import eventually

FAULT = "alter table views.jobs add constraint a_fault check (tags <> '{poison}')"
FIX = "alter table views.jobs drop constraint a_fault"

WAIT_S_MAX = 60.0


@pytest.fixture
def fleet(dsn: str, nats_url: str, servers: EmbeddedServers, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.of(servers, dsn, tmp_path) as made:
        yield made


def test_a_poisoned_event_parks_its_stream_is_shown_and_goes_on_after_a_fix_without_a_rebuild(
    fleet: Fleet, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FAULT)
    for service in ("projector", "api"):
        fleet.start(service)
    with fleet.client() as client:
        fleet.ready(client)
        before, bad, after = (submitted(client, tag) for tag in ("one", "poison", "two"))
        assert client.post(f"/v1/jobs/{bad['id']}/cancel").status_code == 202
        fleet_has_read(fleet, client)
        parked = view(client, "jobs")["parked"]
        assert [one["stream"] for one in parked] == [bad["id"], bad["id"]]  # queued, and canceled after that
        assert parked[0]["position"] < parked[1]["position"]
        assert "a_fault" in parked[0]["reason"]
        assert parked[1]["reason"] == "an earlier event of this stream is parked"
        assert all(state["parked"] == [] for state in states(client) if state["name"] != "jobs")
        assert listed(client) == {before["id"], after["id"]}  # others go on
        # What is not fixed stays parked, and the projector starts all the same.
        restart(fleet, "projector")
        later = submitted(client, "three")
        fleet_has_read(fleet, client)
        assert len(view(client, "jobs")["parked"]) == 2
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(FIX)
        restart(fleet, "projector")
        eventually(lambda: view(client, "jobs")["parked"] == [], WAIT_S_MAX, fleet.logs)
        assert listed(client) == {before["id"], bad["id"], after["id"], later["id"]}
        assert client.get(f"/v1/jobs/{bad['id']}").json()["status"] == "canceled"
    with psycopg.connect(dsn) as connection:
        rebuilt = "select count(*) from pg_tables where schemaname in ('views_previous', 'views_next')"
        assert connection.execute(rebuilt).fetchone() == (0,)
    fleet.done("projector", ["verify"])


def submitted(client: httpx.Client, tag: str) -> dict[str, Any]:
    """A job with this tag alone."""
    body = {"job_type": "sdxl_image_fast", "prompt": "a fox", "quantity": 1, "tags": [tag]}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def states(client: httpx.Client) -> list[dict[str, Any]]:
    """What an administrator sees of the views."""
    answer = client.get("/v1/admin/projections")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def view(client: httpx.Client, name: str) -> dict[str, Any]:
    """One of them."""
    return next(state for state in states(client) if state["name"] == name)


def fleet_has_read(fleet: Fleet, client: httpx.Client) -> None:
    """Wait until every view has read the whole ledger, with what it parked."""
    eventually(lambda: all(state["lag"] == 0 for state in states(client)), WAIT_S_MAX, fleet.logs)


def listed(client: httpx.Client) -> set[str]:
    """The jobs that the view has."""
    return {job["id"] for job in client.get("/v1/jobs").json()["results"]}


def restart(fleet: Fleet, service: str) -> None:
    """As after an update of the program."""
    assert fleet.stop_one(service) == 0
    fleet.start(service)
