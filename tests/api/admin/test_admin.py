"""What an administrator sees: views, queues; and the catalog that everybody sees."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.app import Parts, create_app
from api.http.identity import Identities, Identity
from domain.json_type import Json
from projections import ALL
from services.database import Database
from services.ledger import Ledger
from services.observability.watch import Watch
from services.views.rebuild import RebuildRunning, Rebuilt, rebuild
from tests.api.conftest import bearer
from tests.api.serving import GIB, Site
from tests.domain.catalogs import TEN

VIEWS = sorted(view.name for view in ALL)


async def test_projections_tell_how_far_they_are(site: Site) -> None:
    await site.submit()
    behind = (await site.http.get("/v1/admin/projections")).json()["results"]
    assert [view["name"] for view in behind] == VIEWS
    assert {(view["position"], view["head"], view["lag"]) for view in behind} == {(0, 4, 4)}
    there = (await site.get("/v1/admin/projections"))["results"]
    assert {(view["position"], view["head"], view["lag"]) for view in there} == {(4, 4, 0)}
    assert all(view["parked"] == [] for view in there)


async def test_parked_events_are_shown(site: Site, database: Database) -> None:
    stream = uuid4()
    with database.connection() as connection:
        connection.execute(
            "insert into parked_events (view, slot, stream_id, position, reason) values ('jobs', 'live', %s, 3, 'odd')",
            (stream,),
        )
    views = {view["name"]: view for view in (await site.get("/v1/admin/projections"))["results"]}
    (parked,) = views["jobs"]["parked"]
    assert (parked["stream"], parked["position"], parked["reason"]) == (str(stream), 3, "odd")
    assert views["queue"]["parked"] == []


async def test_a_view_is_rebuilt(parts: Parts, site: Site, ledger: Ledger) -> None:
    await site.finished(quantity=1)
    views = {view.name: view for view in ALL}

    def build(name: str) -> Rebuilt:
        return rebuild(parts.database, ledger, views[name])

    async with serving(replace(parts, rebuild=build)) as http:
        response = await http.post("/v1/admin/projections/jobs/rebuild")
        assert response.status_code == 200, response.text
        assert {name: response.json()[name] for name in ("name", "position", "rows", "same")} == {
            "name": "jobs",
            "position": ledger.head(),
            "rows": 2,
            "same": True,
        }
        unknown = await http.post("/v1/admin/projections/everything/rebuild")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_a_view_that_is_being_rebuilt_is_left_alone(parts: Parts, site: Site) -> None:
    def busy(name: str) -> Rebuilt:
        raise RebuildRunning(f"The view {name} is being rebuilt.")

    async with serving(replace(parts, rebuild=busy)) as http:
        response = await http.post("/v1/admin/projections/jobs/rebuild")
        assert (response.status_code, response.json()["code"]) == (409, "rebuild_running")
    response = await site.http.post("/v1/admin/projections/jobs/rebuild")
    assert (response.status_code, response.json()["code"]) == (503, "rebuild_unavailable")


def serving(parts: Parts) -> httpx.AsyncClient:
    """Another API on the same parts; it needs no feed."""
    transport = httpx.ASGITransport(create_app(parts), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://darkroom", headers=bearer())


async def test_queues_tell_backlog_wait_throughput_and_errors(site: Site) -> None:
    assert (await site.get("/v1/admin/queues"))["results"] == [
        {
            "pool": pool,
            "backlog": 0,
            "running": 0,
            "oldest_waiting_s": None,
            "wait_mean_s": None,
            "wait_p50_s": None,
            "wait_p90_s": None,
            "throughput_per_h": 0,
            "error_rate": None,
        }
        for pool in ("sdxl", "wan")
    ]
    await site.finished(quantity=1)
    failing = await site.submit(quantity=1)
    site.clock.tick(9)
    await site.start(failing)
    await site.fail(failing, 0)
    await site.start(await site.submit())
    await site.submit()
    site.clock.tick(30)
    (queue, _) = (await site.get("/v1/admin/queues"))["results"]
    assert (queue["backlog"], queue["running"], queue["oldest_waiting_s"]) == (1, 1, 30)
    assert (queue["throughput_per_h"], queue["error_rate"]) == (2, 0.5)
    assert (queue["wait_mean_s"], queue["wait_p50_s"], queue["wait_p90_s"]) == (5.5, 5.5, 9.1)


async def test_performance_tells_seconds_next_to_what_was_expected(site: Site) -> None:
    assert (await site.get("/v1/admin/performance"))["results"] == []
    await site.finished(quantity=1)  # 1 s of 4
    slow = await site.submit(quantity=3)
    await site.start(slow)
    for index in range(3):
        site.clock.tick(5)
        await site.complete(slow, index)  # 18 s of 12
    failed = await site.submit(quantity=1, job_type="sdxl_image_high")
    await site.start(failed)
    await site.fail(failed, 0)
    fast, high = (await site.get("/v1/admin/performance"))["results"]
    assert {**fast, "ratio_p90": round(fast["ratio_p90"], 6)} == {
        "job_type": "sdxl_image_fast",
        "model": "sdxl-demo",
        "jobs": 2,
        "expected_s": 8,
        "actual_s": 9.5,
        "ratio_mean": 0.875,
        "ratio_p50": 0.875,
        "ratio_p90": 1.375,
        "peak_memory_bytes": 3 * GIB,
    }
    assert (high["job_type"], high["jobs"], high["actual_s"]) == ("sdxl_image_high", 1, 1)
    assert (high["ratio_mean"], high["peak_memory_bytes"]) == (None, None)
    site.clock.tick(3_600)
    assert (await site.get("/v1/admin/performance"))["results"] == []


async def test_only_an_administrator_sees_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ada(*_: object) -> Identity:
        return Identity("ada")

    monkeypatch.setattr(Identities, "identify", ada)
    for method, path in [
        ("GET", "/v1/admin/projections"),
        ("GET", "/v1/admin/queues"),
        ("GET", "/v1/admin/performance"),
        ("GET", "/v1/admin/dead-jobs"),
        ("POST", f"/v1/admin/dead-jobs/{uuid4()}/retry"),
        ("GET", "/metrics"),
        ("POST", "/v1/admin/projections/jobs/rebuild"),
    ]:
        response = await site.http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")


async def test_not_ready_before_the_views_were_ever_projected(parts: Parts) -> None:
    async with serving(parts) as http:
        response = await http.get("/readyz")
    assert response.status_code == 503
    assert [reason.split()[2] for reason in response.json()["reasons"]] == VIEWS
    assert "Retry-After" in response.headers


async def test_the_catalog_tells_what_a_form_needs(site: Site) -> None:
    job_types = await site.get("/v1/job-types")
    groups = {group["task"]: group["names"] for group in job_types["groups"]}
    assert set(groups) == {"t2i", "i2i", "t2v", "i2v", "extend"}
    assert groups["i2i"] == ["sdxl_image_fast", "sdxl_image_high"]
    assert {name for names in groups.values() for name in names} == {entry["name"] for entry in job_types["results"]}
    fast: Json = job_types["results"][0]
    assert (fast["name"], fast["quantities"], fast["model"]) == ("sdxl_image_fast", [1, 3, 6], "sdxl-demo")
    steps: dict[str, Any] = fast["parameters"]["properties"]["steps"]
    expected = {"type": "integer", "minimum": 1, "maximum": 100, "default": 15, "depends_on": [], "unit": "steps"}
    assert steps == expected
    assert fast["parameters"]["additionalProperties"] is False
    models = await site.get("/v1/models")
    assert {entry["name"] for entry in models["results"]} >= {"sdxl", "sdxl-demo", "wan-demo", "wan-2.1-1.3b"}
    by_task = {group["task"]: group["names"] for group in models["groups"]}
    assert by_task["multi"] == ["sdxl"]
    assert by_task["extend"] == ["wan-2.2-5b", "wan-demo"]


async def test_the_job_types_are_those_of_the_table(site: Site) -> None:
    listed = {entry["name"]: entry for entry in (await site.get("/v1/job-types"))["results"]}
    assert set(listed) == {row[0] for row in TEN}
    for name, pool, kind, steps, _, quantities, expected_s, enhance in TEN:
        entry = listed[name]
        parameters = entry["parameters"]["properties"]
        models = {model["name"]: model for model in (await site.get("/v1/models"))["results"]}
        assert models[entry["model"]]["pool"] == pool
        assert (entry["kind"], entry["extension"]) == (kind, "png" if kind == "image" else "mp4")
        assert (entry["quantities"], entry["expected_s"]) == (list(quantities), list(expected_s))
        assert (parameters["steps"]["default"], entry["enhance"], entry["bucket"]) == (steps, enhance, name)


async def test_an_unexpected_error_tells_nothing_of_the_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret plan")

    monkeypatch.setattr("api.jobs.routes.read_page", broken)
    response = await site.http.get("/v1/jobs")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text


async def test_what_is_stuck_is_listed_and_what_can_be_used_stays_ready(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.observability.watch.KEPT_S", 0)
    stranger = await site.http.get("/readyz", headers={"Authorization": ""})
    assert stranger.json() == {"status": "ready", "reasons": []}
    response = await site.http.get("/readyz")
    document = response.json()
    assert (response.status_code, document["status"], document["reasons"]) == (200, "ready", [])
    found = {finding["code"]: finding for finding in document["findings"]}
    assert "No relay runs." in {finding["sentence"] for finding in document["findings"]}
    assert set(found["service_missing"]) == {"code", "severity", "sentence", "remedy"}
    page = (await site.http.get("/metrics")).text
    assert 'darkroom_findings{code="service_missing",severity="warning"} 6.0' in page


async def test_a_finding_that_stops_work_is_not_ready(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.observability.checks.DISK_FREE_BYTES_MIN", 10**18)
    watch = Watch(parts.database, parts.broker, {}, tmp_path)
    async with serving(replace(parts, watch=watch)) as http:
        response = await http.get("/readyz")
    found = response.json()["findings"]
    assert (response.status_code, found[0]["code"], found[0]["severity"]) == (503, "disk_full", "error")
