"""What an administrator does with everybody's jobs, and with the workers and pools; and what owners learn of it."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from api.http import schemas
from domain.aggregates.job import Running, Waiting, priority_of
from domain.json_type import Json
from services.database import Database
from services.ledger import Ledger
from services.messaging.wire import AnnouncedModel, Announcement
from services.queue.fleet import RollCall
from tests.api.assets.test_purging import say
from tests.api.serving import Site
from tests.spec import WORKER

SAID = Announcement(
    pools=("sdxl",),
    models=(AnnouncedModel(name="sdxl-demo", loaded=True),),
    device="cpu",
    version="1",
    up_s=60.0,
    idle_s=5.0,
)


async def admin_jobs(site: Site, **query: object) -> list[Json]:
    page = await site.get("/v1/admin/jobs", **query)
    return [schemas.AnybodysJob.model_validate(row).model_dump(mode="json") for row in page["results"]]


async def test_everybodys_jobs_are_listed_and_filtered(site: Site) -> None:
    hers = await asyncio.to_thread(site.submit_as, "eve")
    mine = await site.submit()
    video = await site.submit(job_type="video_fast", quantity=1)
    await site.start(mine)
    rows = await admin_jobs(site)
    assert [(row["id"], row["owner"], row["pool"], row["worker"]) for row in rows] == [
        (video["id"], "admin", "wan", None),
        (mine["id"], "admin", "sdxl", WORKER),
        (str(hers), "eve", "sdxl", None),
    ]

    async def ids(**query: object) -> list[str]:
        return [row["id"] for row in await admin_jobs(site, **query)]

    assert await ids(owner="eve") == [str(hers)]
    assert await ids(owner="nobody") == []
    assert await ids(pool="wan") == [video["id"]]
    assert await ids(status="processing") == [mine["id"]]
    assert await ids(status="queued") == [video["id"], str(hers)]
    assert await ids(job_type="video_fast", status="queued") == [video["id"]]
    assert await ids(status="failed") == []


async def test_everybodys_jobs_come_in_pages(site: Site) -> None:
    jobs = [str(await asyncio.to_thread(site.submit_as, owner)) for owner in ("eve", "ben", "eve")]
    first = await site.get("/v1/admin/jobs", limit=2)
    rest = await site.get("/v1/admin/jobs", limit=2, cursor=first["next"])
    assert [row["id"] for row in first["results"] + rest["results"]] == jobs[::-1]
    assert rest["next"] is None


async def test_an_administrator_stops_anybodys_job_and_its_owner_reads_who_did_it(site: Site, ledger: Ledger) -> None:
    job_id = await asyncio.to_thread(site.submit_as, "eve")
    answered = await site.http.post(f"/v1/admin/jobs/{job_id}/cancel")
    assert (answered.status_code, answered.json()) == (202, {"result": "canceled"})
    seen = await site.get(f"/v1/admin/jobs/{job_id}")
    assert (seen["status"], seen["owner"]) == ("canceled", "eve")
    history = (await site.get(f"/v1/admin/jobs/{job_id}/history"))["results"]
    assert [(item["type"], item["actor"]) for item in history if item["type"].startswith("job.")] == [
        ("job.queued", "eve"),
        ("job.canceled", "admin"),
    ]
    retried = await site.http.post(f"/v1/admin/jobs/{job_id}/retry")
    assert retried.status_code == 202
    assert ledger.generation(UUID(retried.json()["id"]), owner="eve").job.queued.parent_id == job_id  # type: ignore[union-attr]
    again = await site.http.post(f"/v1/admin/jobs/{job_id}/retry")
    assert (again.status_code, again.json()["id"]) == (200, retried.json()["id"])


async def test_a_priority_is_changed_and_decides_the_order(site: Site, ledger: Ledger) -> None:
    first, second = [str(await asyncio.to_thread(site.submit_as, "eve")) for _ in range(2)]
    answered = await site.http.patch(f"/v1/admin/jobs/{second}", json={"priority": 5})
    assert (answered.status_code, answered.json()["priority"], answered.json()["owner"]) == (200, 5, "eve")
    places = {row["id"]: (row["priority"], row["queue"]["position"]) for row in await admin_jobs(site)}
    assert places == {second: (5, 1), first: (0, 2)}
    job = ledger.generation(UUID(second)).job
    assert isinstance(job, Waiting)
    assert priority_of(job) == 5
    history = (await site.get(f"/v1/admin/jobs/{second}/history"))["results"]
    assert [(item["type"], item["actor"], item["data"]) for item in history][-1] == (
        "job.reprioritized",
        "admin",
        {"priority": 5},
    )


@pytest.mark.parametrize(
    ("content", "status"),
    [({"priority": 11}, 422), ({"priority": "5"}, 422), ({}, 422), ({"priority": 1, "x": 1}, 422)],
)
async def test_a_priority_has_bounds(site: Site, content: Json, status: int) -> None:
    job = await site.submit()
    assert (await site.http.patch(f"/v1/admin/jobs/{job['id']}", json=content)).status_code == status


async def test_what_is_over_has_no_priority_and_what_never_was_is_not_found(site: Site) -> None:
    job = await site.finished(quantity=1)
    over = await site.http.patch(f"/v1/admin/jobs/{job['id']}", json={"priority": 5})
    assert (over.status_code, over.json()["code"]) == (409, "job_ended")
    for method, path in (("PATCH", ""), ("GET", ""), ("GET", "/history"), ("POST", "/cancel"), ("POST", "/retry")):
        content = {"json": {"priority": 5}} if method == "PATCH" else {}
        unknown = await site.http.request(method, f"/v1/admin/jobs/{uuid4()}{path}", **content)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


# Workers and pools.


async def test_workers_are_shown_with_what_they_do_and_since_when(site: Site, database: Database) -> None:
    calling = RollCall(database, site.parts.broker, ["sdxl", "wan"])
    await asyncio.to_thread(calling.hear, WORKER, SAID.model_copy(update={"idle_s": None}))
    await asyncio.to_thread(calling.hear, "gpu-2", SAID)
    job = await site.submit()
    await site.start(job)
    await site.get("/v1/jobs")  # the views are there
    rows = [schemas.WorkerState.model_validate(row) for row in (await site.get("/v1/admin/workers"))["results"]]
    busy, idle = rows
    assert (busy.name, busy.state, busy.pools, busy.device) == (WORKER, "busy", ["sdxl"], "cpu")
    assert busy.job is not None
    assert (str(busy.job.id), busy.job.owner, busy.job.attempt) == (job["id"], "admin", 1)
    assert busy.since == busy.job.started_at
    assert (idle.name, idle.state, idle.job) == ("gpu-2", "idle", None)
    assert idle.since is not None
    pools = {row["pool"]: row for row in (await site.get("/v1/admin/pools"))["results"]}
    assert {name: (row["state"], row["workers"]) for name, row in pools.items() if name in {"sdxl", "wan"}} == {
        "sdxl": ("open", 2),
        "wan": ("no_worker", 0),
    }
    assert (pools["sdxl"]["running"], pools["wan"]["last_seen_at"]) == (1, None)


async def test_a_worker_is_drained_and_resumed_by_name(site: Site, database: Database) -> None:
    calling = RollCall(database, site.parts.broker, ["sdxl"])
    await asyncio.to_thread(calling.hear, "gpu-1", SAID)
    drained = await say(site, "POST", "/v1/admin/workers/gpu-1/drain", json={"reason": "a new card"})
    assert drained.status_code == 200
    held = schemas.FleetChange.model_validate(drained.json()).held
    assert held is not None
    assert (held.hold, held.reason, held.by) == ("drained", "a new card", "admin")
    reply = await asyncio.to_thread(calling.hear, "gpu-1", SAID)
    assert (reply.hold, reply.reason) == ("drained", "a new card")
    (row,) = (await site.get("/v1/admin/workers"))["results"]
    assert (row["state"], row["held"]["by"]) == ("drained", "admin")
    resumed = await say(site, "POST", "/v1/admin/workers/gpu-1/resume")
    assert resumed.json() == {"kind": "worker", "name": "gpu-1", "held": None}
    assert (await asyncio.to_thread(calling.hear, "gpu-1", SAID)).hold is None


async def test_a_pool_is_paused_and_resumed_as_events_of_the_administrator(site: Site, ledger: Ledger) -> None:
    before = ledger.head()
    for word in ("pause", "pause", "resume", "resume", "drain"):
        answered = await say(site, "POST", f"/v1/admin/pools/sdxl/{word}")
        assert answered.status_code == 200, answered.text
    events = [event for event in ledger.read(before, 100) if event.name.startswith("pool.")]
    assert [event.name for event in events] == ["pool.paused", "pool.resumed", "pool.drained"]
    assert {(event.envelope.actor, event.envelope.owner) for event in events} == {("admin", "admin")}  # type: ignore[union-attr]
    (pool,) = [row for row in (await site.get("/v1/admin/pools"))["results"] if row["pool"] == "sdxl"]
    assert pool["state"] == "drained"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v1/admin/pools/tape/pause", None, 404),
        ("/v1/admin/workers/a..b/pause", None, 404),
        (f"/v1/admin/workers/{'x' * 201}/pause", None, 404),
        ("/v1/admin/workers/gpu%20one/pause", None, 404),
        ("/v1/admin/pools/sdxl/pause", {"reason": "x" * 501}, 422),
        ("/v1/admin/pools/sdxl/pause", {"why": "x"}, 422),
    ],
)
async def test_what_cannot_be_held_back_is_refused(site: Site, path: str, content: Json | None, status: int) -> None:
    answered: httpx.Response = await say(site, "POST", path, json=content) if content else await say(site, "POST", path)
    assert answered.status_code == status, answered.text


async def test_a_running_job_keeps_its_attempt_when_its_priority_changes(site: Site, ledger: Ledger) -> None:
    job = await site.submit()
    await site.start(job)
    assert (await site.http.patch(f"/v1/admin/jobs/{job['id']}", json={"priority": -3})).status_code == 200
    running = ledger.generation(UUID(job["id"])).job
    assert isinstance(running, Running)
    assert (running.tries.attempt, running.tries.priority) == (1, -3)
