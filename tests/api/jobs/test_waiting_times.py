"""What a waiting job learns: for what it waits, behind which jobs, and for how long."""

import asyncio
from uuid import UUID

from domain.json_type import Json
from services.messaging.broker import ensure_work_stream
from services.messaging.wire import work_subject
from services.queue.fleet import RollCall
from tests.api.admin.test_operators import SAID
from tests.api.assets.test_purging import say
from tests.api.serving import Site


async def hear(site: Site, worker: str, *pools: str) -> None:
    """A worker says that it is there."""
    calling = RollCall(site.parts.database, site.parts.broker, ["sdxl", "wan"])
    await asyncio.to_thread(calling.hear, worker, SAID.model_copy(update={"pools": pools}))


async def queue_of(site: Site, job: Json) -> Json:
    queue: Json = (await site.get(f"/v1/jobs/{job['id']}"))["queue"]
    return queue


async def test_without_a_worker_the_missing_worker_is_shown_instead_of_a_time(site: Site) -> None:
    job = await site.submit()
    queue = await queue_of(site, job)
    assert (queue["position"], queue["eta_s"], queue["eta_p90_s"], queue["workers"]) == (1, None, None, 0)
    assert (queue["waits_for"], queue["waits_since"]) == ("no_worker", job["created_at"])
    assert queue["detail"] == "No worker for the pool sdxl is running."
    await hear(site, "gpu-1", "wan")  # of another pool
    assert (await queue_of(site, job))["waits_for"] == "no_worker"
    await hear(site, "gpu-2", "sdxl")
    queue = await queue_of(site, job)
    assert (queue["workers"], queue["waits_for"], queue["waits_since"]) == (1, None, None)
    assert 0 < queue["eta_s"] <= queue["eta_p90_s"]


async def test_a_paused_pool_and_a_drained_worker_say_so(site: Site) -> None:
    job = await site.submit()
    await hear(site, "gpu-1", "sdxl")
    await say(site, "POST", "/v1/admin/pools/sdxl/pause", json={"reason": "a new rack"})
    queue = await queue_of(site, job)
    assert (queue["waits_for"], queue["eta_s"]) == ("pool_paused", None)
    assert queue["waits_since"] is not None
    assert queue["detail"] == "The pool sdxl is paused: a new rack. The job starts after it is resumed."
    await say(site, "POST", "/v1/admin/pools/sdxl/resume")
    assert (await queue_of(site, job))["waits_for"] is None
    await say(site, "POST", "/v1/admin/workers/gpu-1/drain")
    queue = await queue_of(site, job)
    assert queue["waits_for"] == "no_worker"
    assert queue["detail"] == (
        "Operators hold the workers of the pool sdxl back: gpu-1. The job starts after one is resumed."
    )


async def test_a_worker_that_is_busy_with_a_job_of_another_pool_is_counted_as_busy(site: Site) -> None:
    await hear(site, "gpu-1", "sdxl", "wan")  # the site's worker
    waiting = await site.submit()
    idle = await queue_of(site, waiting)
    video = await site.submit(job_type="video_fast", quantity=1)
    await site.start(video)
    busy = await queue_of(site, waiting)
    assert busy["position"] == idle["position"] == 1
    assert busy["eta_s"] > idle["eta_s"] + 5
    await hear(site, "gpu-2", "sdxl")  # another one is free
    assert (await queue_of(site, waiting))["eta_s"] == idle["eta_s"]


async def test_more_workers_and_fewer_jobs_ahead_make_it_sooner(site: Site) -> None:
    await hear(site, "gpu-9", "sdxl")
    jobs = [await site.submit(quantity=6) for _ in range(6)]
    alone = [(await queue_of(site, job))["eta_s"] for job in jobs]
    assert alone == sorted(alone)
    await hear(site, "gpu-8", "sdxl")
    together = [(await queue_of(site, job))["eta_s"] for job in jobs]
    assert together[-1] < 0.7 * alone[-1]


async def test_what_is_handed_out_already_stands_first(site: Site) -> None:
    await hear(site, "gpu-9", "sdxl")
    first, second = await site.submit(), await site.submit()
    subject = work_subject("sdxl", UUID(second["id"]), 1)
    jetstream = site.parts.broker.jetstream
    await ensure_work_stream(jetstream, ["sdxl"])
    await jetstream.publish(subject, b"{}")
    places: dict[str, int] = {}
    async with asyncio.timeout(20):
        while places.get(second["id"]) != 1:  # the broker is asked twice a second
            listed = (await site.get("/v1/jobs"))["results"]
            places = {job["id"]: job["queue"]["position"] for job in listed}
    assert places == {second["id"]: 1, first["id"]: 2}


async def test_a_job_counts_by_its_steps_and_size(site: Site) -> None:
    """Sixteen times the pixels and several times the steps: ahead of another job, and by itself."""
    await hear(site, "gpu-1", "sdxl")
    small = await site.submit(params={"width": 256, "height": 256, "steps": 10})
    behind_small = await site.submit()
    alone = (await queue_of(site, behind_small))["eta_s"]
    first = (await queue_of(site, small))["eta_s"]
    await say(site, "POST", f"/v1/jobs/{small['id']}/cancel")
    large = await site.submit(params={"width": 1024, "height": 1024, "steps": 60}, priority=5)
    assert (await queue_of(site, large))["eta_s"] > 50 * first
    assert (await queue_of(site, behind_small))["eta_s"] > 10 * alone
