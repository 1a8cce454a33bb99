"""Looking at jobs, canceling them, retrying them, and reading what happened."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.http.pages import cursor_of
from api.http.read_your_writes import ViewPositions
from domain.commands import CancelJob, ConfirmCancel
from domain.recipes.recipe import asset_id
from services.ledger import JOB, Context
from services.messaging.wire import CANCEL, Progress, cancel_subject, progress_subject
from services.queue.fleet import RollCall
from tests.api.admin.test_operators import SAID
from tests.api.serving import Site, body
from tests.services.beside import settled


async def test_a_finished_job_shows_its_files(site: Site) -> None:
    job = await site.finished()
    assert (job["status"], job["attempt"], job["queue"], job["progress"]) == ("succeeded", 1, None, None)
    assert [asset["index"] for asset in job["assets"]] == [0, 1, 2]
    assert [asset["id"] for asset in job["assets"]] == [str(asset_id(UUID(job["id"]), index)) for index in range(3)]
    first = job["assets"][0]
    assert first["url"] == f"/v1/assets/{first['id']}/content"
    assert (first["status"], first["media_type"], first["bytes"]) == ("completed", "image/png", 1000)
    assert job["created_at"] < job["started_at"] < first["completed_at"] < job["finished_at"]
    assert job["finished_at"].endswith("Z")


CALLS = [("GET", ""), ("GET", "/history"), ("POST", "/cancel"), ("POST", "/retry")]


async def test_an_unknown_id_is_not_found(site: Site) -> None:
    for unknown in (str(uuid4()), "not-an-id", "{6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40}"):
        for method, path in CALLS:
            response = await site.http.request(method, f"/v1/jobs/{unknown}{path}")
            assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_somebody_elses_job_is_not_found(site: Site) -> None:
    job = await site.submit()
    theirs = await asyncio.to_thread(site.submit_as, "ada")
    await asyncio.to_thread(site.project)
    for method, path in CALLS:
        response = await site.http.request(method, f"/v1/jobs/{theirs}{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    for method, path in [("GET", ""), ("GET", "/content"), ("PUT", "/saved"), ("DELETE", "")]:
        response = await site.http.request(method, f"/v1/assets/{asset_id(theirs, 0)}{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert [found["id"] for found in (await site.get("/v1/jobs"))["results"]] == [job["id"]]
    assert {asset["job_id"] for asset in (await site.get("/v1/workspace"))["results"]} == {job["id"]}


async def test_pages_hold_each_job_once_while_new_ones_arrive(site: Site) -> None:
    before = [(await site.submit(quantity=1))["id"] for _ in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = await site.get("/v1/jobs", **query)
        seen += [job["id"] for job in page["results"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
        await site.submit(quantity=1)
    assert seen == before[::-1]


async def test_jobs_are_filtered(site: Site) -> None:
    fast, high = await site.submit(), await site.submit(job_type="sdxl_image_high")
    await site.start(fast)
    assert [job["id"] for job in (await site.get("/v1/jobs", status="processing"))["results"]] == [fast["id"]]
    found = await site.get("/v1/jobs", job_type="sdxl_image_high")
    assert [job["id"] for job in found["results"]] == [high["id"]]
    assert (await site.get("/v1/jobs", batch_id=str(uuid4())))["results"] == []


BAD_QUERIES: list[tuple[str, str, object]] = [
    ("jobs", "limit", 0),
    ("jobs", "limit", 201),
    ("jobs", "limit", "many"),
    ("jobs", "status", "done"),
    ("jobs", "batch_id", "7"),
    ("jobs", "job_type", "a\0b"),
    ("workspace", "limit", 0),
    ("library", "kind", "song"),
    ("library", "saved", "perhaps"),
    ("library", "min_score", 6),
    ("library", "q", "fog\0"),
    ("library", "tag", "fog\0"),
    ("library", "model", "fog\0"),
]


async def test_a_bad_filter_is_named(site: Site) -> None:
    for list_name, field, value in BAD_QUERIES:
        response = await site.http.get(f"/v1/{list_name}", params={field: value})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
        assert [one["path"] for one in response.json()["errors"]] == [field]


async def test_a_broken_cursor_is_refused(site: Site) -> None:
    broken = ["", "x", "!!!", "é", cursor_of("history", 1), cursor_of("jobs", 10**19 - 1), cursor_of("jobs", 1, 2, 3)]
    for list_name in ("jobs", "workspace", "library"):
        for cursor in broken:
            response = await site.http.get(f"/v1/{list_name}", params={"cursor": cursor})
            assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor"), cursor


async def test_waiting_jobs_know_their_place(site: Site) -> None:
    first, second = await site.submit(), await site.submit(quantity=6)
    urgent = await site.submit(priority=5)
    places = {job["id"]: job["queue"]["position"] for job in (await site.get("/v1/jobs"))["results"]}
    assert places == {urgent["id"]: 1, first["id"]: 2, second["id"]: 3}
    await site.start(urgent)
    assert (await site.get(f"/v1/jobs/{urgent['id']}"))["queue"] is None
    assert (await site.get(f"/v1/jobs/{second['id']}"))["queue"]["position"] == 2


async def test_the_eta_learns_from_jobs_that_ended(site: Site) -> None:
    await site.finished(quantity=1)  # it took one second of the test's clock
    waiting = await site.submit(quantity=6)
    await asyncio.to_thread(RollCall(site.parts.database, site.parts.broker, ["sdxl"]).hear, "gpu-1", SAID)
    queue = (await site.get(f"/v1/jobs/{waiting['id']}"))["queue"]
    assert (queue["position"], queue["eta_s"], queue["eta_p90_s"]) == (1, 6.0, 6.0)
    assert (queue["workers"], queue["waits_for"], queue["detail"]) == (1, None, None)


async def test_progress_shows_while_a_job_runs(site: Site) -> None:
    job = await site.submit()
    await site.start(job)
    await asyncio.to_thread(site.project)
    client = site.parts.broker.client
    for step in (1, 2):
        progress = Progress(job_id=UUID(job["id"]), attempt=1, step=step, total=15)
        await client.publish(progress_subject("gpu-1"), progress.model_dump_json().encode())
    forged = Progress(job_id=UUID(job["id"]), attempt=1, step=9, total=15)
    await client.publish(progress_subject("gpu-2"), forged.model_dump_json().encode())
    await client.publish(progress_subject("gpu-1"), b"nonsense")
    await client.flush()
    async with asyncio.timeout(20):
        while (await site.get(f"/v1/jobs/{job['id']}"))["progress"] != {"step": 2, "total": 15}:
            pass
    for index in range(3):
        await site.complete(job, index)
    assert (await site.get(f"/v1/jobs/{job['id']}"))["progress"] is None


async def test_a_read_waits_for_the_views(site: Site) -> None:
    response = await site.http.post("/v1/jobs", json=body())
    position = {"Darkroom-Min-Position": response.headers["Darkroom-Position"]}
    reading = asyncio.create_task(site.http.get("/v1/jobs", headers=position))
    await asyncio.to_thread(site.project)
    assert len((await asyncio.wait_for(reading, 20)).json()["results"]) == 1


async def test_a_read_does_not_wait_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ViewPositions.reached, "__defaults__", (0.1,))
    response = await site.http.get("/v1/jobs", headers={"Darkroom-Min-Position": "9"})
    assert (response.status_code, response.json()["code"]) == (503, "view_behind")
    assert int(response.headers["Retry-After"]) > 0
    assert "jobs is at 0" in response.json()["detail"]


async def test_a_position_that_is_invalid(site: Site) -> None:
    for text in ("-1", "soon", "1.5", "", "9" * 30):
        response = await site.http.get("/v1/jobs", headers={"Darkroom-Min-Position": text})
        assert (response.status_code, response.json()["errors"][0]["path"]) == (422, "Darkroom-Min-Position")


async def test_a_waiting_job_is_canceled_at_once(site: Site) -> None:
    job = await site.submit()
    response = await site.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()) == (202, {"result": "canceled"})
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
    again = await site.http.post(f"/v1/jobs/{job['id']}/cancel", json={})
    assert again.json() == {"result": "already_finished"}
    assert (await site.get(f"/v1/jobs/{job['id']}"))["status"] == "canceled"


async def test_the_worker_of_a_running_job_is_reported(site: Site) -> None:
    job = await site.submit()
    await site.start(job)
    told = await site.parts.broker.client.subscribe(cancel_subject("gpu-1", UUID(job["id"])))
    await settled(site.parts.broker.client)
    for _ in range(2):
        response = await site.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert (response.status_code, response.json()) == (202, {"result": "cancel_requested"})
        assert (await told.next_msg(timeout=20)).data == CANCEL
    await told.unsubscribe()
    await site.report(job, ConfirmCancel(1, site.clock()))
    assert (await site.get(f"/v1/jobs/{job['id']}"))["status"] == "canceled"


async def test_a_body_that_would_be_ignored_is_refused(site: Site) -> None:
    job = await site.submit()
    response = await site.http.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "no"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")


async def test_retry_runs_the_failed_outputs_alone(site: Site) -> None:
    job = await site.submit(tags=["sea"], priority=2)
    await site.start(job)
    await site.complete(job, 1)
    await site.fail(job, 0)
    await site.fail(job, 2)
    assert (await site.get(f"/v1/jobs/{job['id']}"))["status"] == "partially_succeeded"

    response = await site.http.post(f"/v1/jobs/{job['id']}/retry")
    assert response.status_code == 202
    again = response.json()
    assert (again["parent_id"], again["quantity"], again["status"]) == (job["id"], 2, "queued")
    assert [asset["seed"] for asset in again["assets"]] == [42, 44]
    assert {name: again[name] for name in ("job_type", "prompt", "tags", "priority")} == {
        name: job[name] for name in ("job_type", "prompt", "tags", "priority")
    }
    found = await site.get(f"/v1/jobs/{again['id']}")
    assert found == again | {"queue": found["queue"]}
    (queued, *_) = (await site.get(again["urls"]["history"]))["results"]
    assert queued["data"]["expected_s"] == 8  # two images of the parent's three
    await site.start(again)
    await site.complete(again, 0)
    await site.complete(again, 1)
    assert (await site.get(f"/v1/jobs/{again['id']}"))["status"] == "succeeded"


async def test_retry_under_one_key_is_one_job(site: Site) -> None:
    job = await site.submit()
    await asyncio.to_thread(
        site.ledger.execute, JOB, UUID(job["id"]), CancelJob(site.clock()), Context(actor="admin", owner="admin")
    )
    headers = {"Idempotency-Key": "again"}
    responses = [await site.http.post(f"/v1/jobs/{job['id']}/retry", headers=headers) for _ in range(2)]
    assert [response.status_code for response in responses] == [202, 200]
    assert len({response.json()["id"] for response in responses}) == 1


async def test_there_is_nothing_to_retry(site: Site) -> None:
    waiting, succeeded = await site.submit(), await site.finished()
    for job in (waiting, succeeded):
        response = await site.http.post(f"/v1/jobs/{job['id']}/retry")
        assert (response.status_code, response.json()["code"]) == (409, "nothing_to_retry")


async def test_history_is_every_event_in_ledger_order(site: Site) -> None:
    await site.submit()
    job = await site.finished(quantity=1)
    await site.http.put(f"/v1/assets/{job['assets'][0]['id']}/rating", json={"score": 4})
    history = await site.get(f"/v1/jobs/{job['id']}/history")
    types = ["job.queued", "asset.reserved", "job.started", "asset.completed", "job.succeeded", "asset.rated"]
    assert [item["type"] for item in history["results"]] == types
    assert [item["position"] for item in history["results"]] == list(range(5, 11))
    assert history["next"] is None
    queued, rated = history["results"][0], history["results"][-1]
    assert (queued["stream"], queued["version"], queued["actor"]) == (job["id"], 1, "admin")
    assert queued["correlation_id"] == rated["correlation_id"] == job["id"]
    assert queued["data"]["recipe"]["prompt"] == job["prompt"]
    assert rated["data"] == {"score": 4}
    page = await site.get(f"/v1/jobs/{job['id']}/history", limit=4)
    rest = await site.get(f"/v1/jobs/{job['id']}/history", limit=4, cursor=page["next"])
    assert page["results"] + rest["results"] == history["results"]


async def test_postgres_gone_is_503_everywhere(site: Site) -> None:
    job = await site.submit()
    site.parts.database.close()
    site.parts.views.close()
    for path in ("/v1/jobs", f"/v1/jobs/{job['id']}", "/v1/library", "/v1/workspace", "/v1/admin/projections"):
        response = await site.http.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0
    assert (await site.http.get("/readyz")).status_code == 503
    assert (await site.http.get("/healthz")).status_code == 200
