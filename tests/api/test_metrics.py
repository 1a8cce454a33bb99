"""`GET /metrics`: what Prometheus reads fits what happened."""

from dataclasses import replace

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.admin import VIEWS
from api.app import Parts, create_app
from tests.api.conftest import bearer
from tests.api.serving import Site

LABELS = ("pool", "job_type", "model", "status", "view")
Samples = dict[tuple[str, ...], float]


async def scraped(site: Site, http: httpx.AsyncClient | None = None) -> dict[str, Samples]:
    """Each sample by its name and the values of its labels in the order of `LABELS`, after the views have caught up."""
    await site.get("/v1/admin/projections")
    response = await (http or site.http).get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples: dict[str, Samples] = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            assert set(sample.labels) <= set(LABELS)
            values = tuple(sample.labels[label] for label in LABELS if label in sample.labels)
            samples.setdefault(sample.name, {})[values] = sample.value
    return samples


async def test_the_first_scrape_has_every_queue_and_view_at_zero(site: Site) -> None:
    samples = await scraped(site)
    assert samples == {
        "darkroom_queue_jobs": {(pool, status): 0 for pool in ("sdxl", "wan") for status in ("waiting", "running")},
        "darkroom_view_position": {(view,): 0 for view in VIEWS},
        "darkroom_ledger_position": {(): 0},
    }


async def test_a_scrape_counts_what_happened(site: Site) -> None:
    await site.finished(quantity=1)  # waits 1 s, takes 1 s of 4
    waited = await site.submit(quantity=3)
    site.clock.tick(9)
    await site.start(waited)  # waits 10 s
    for index in range(3):
        site.clock.tick(5)
        await site.complete(waited, index)  # takes 18 s of 12
    failed = await site.submit(quantity=1, job_type="sdxl_image_high")
    await site.start(failed)
    await site.fail(failed, 0)
    await site.http.post(f"/v1/jobs/{(await site.submit())['id']}/cancel")
    await site.start(await site.submit())
    await site.submit(job_type="image_fast", quantity=1)
    samples = await scraped(site)
    fast = ("sdxl", "sdxl_image_fast")
    assert samples["darkroom_queue_jobs"] == {
        ("sdxl", "waiting"): 0, ("sdxl", "running"): 1, ("wan", "waiting"): 1, ("wan", "running"): 0,
    }  # fmt: skip
    assert samples["darkroom_jobs_ended_total"] == {
        (*fast, "succeeded"): 2, (*fast, "canceled"): 1, ("sdxl", "sdxl_image_high", "failed"): 1,
    }  # fmt: skip
    assert samples["darkroom_job_wait_seconds_count"][fast] == 2
    assert samples["darkroom_job_wait_seconds_sum"][fast] == 11
    assert samples["darkroom_job_seconds_count"] == {fast: 2, ("sdxl", "sdxl_image_high"): 1}
    assert samples["darkroom_job_seconds_sum"] == {fast: 19, ("sdxl", "sdxl_image_high"): 1}
    assert samples["darkroom_performance_ratio"] == {("sdxl_image_fast", "sdxl-demo"): 0.875}
    head = site.ledger.head()
    assert samples["darkroom_ledger_position"] == {(): head}
    assert samples["darkroom_view_position"] == {(view,): head for view in VIEWS}


async def test_every_process_of_the_api_counts_the_same(site: Site, parts: Parts) -> None:
    await site.finished(quantity=1)
    transport = httpx.ASGITransport(create_app(replace(parts)))
    async with httpx.AsyncClient(transport=transport, base_url="http://darkroom", headers=bearer()) as another:
        assert await scraped(site, another) == await scraped(site)


async def test_a_scrape_needs_the_token(site: Site) -> None:
    response = await site.http.get("/metrics", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
