"""`GET /metrics`: what Prometheus reads fits what happened."""

import re
from dataclasses import replace
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.admin.views_and_queues import VIEWS
from api.app import Parts, create_app
from services.database import Database
from services.observability.metrics import PROCESS
from tests.api.conftest import bearer
from tests.api.serving import AServer, Site

LABELS = ("pool", "job_type", "model", "status", "view", "state", "method", "route", "le")
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
Samples = dict[tuple[str, ...], float]


async def scraped(site: Site, http: httpx.AsyncClient | None = None) -> dict[str, Samples]:
    """What the installation knows: all but what a process counts of itself, after the views have caught up."""
    await site.get("/v1/admin/projections")
    samples = await everything(http or site.http)
    of_process = {sample.name for family in PROCESS.collect() for sample in family.samples}
    return {name: values for name, values in samples.items() if name not in of_process}


async def everything(http: httpx.AsyncClient) -> dict[str, Samples]:
    """Each sample by its name and the values of its labels in the order of `LABELS`."""
    response = await http.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples: dict[str, Samples] = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            values = tuple(sample.labels[label] for label in LABELS if label in sample.labels)
            samples.setdefault(sample.name, {})[values] = sample.value
    return samples


async def test_the_first_scrape_has_every_queue_and_view_at_zero(site: Site) -> None:
    samples = await scraped(site)
    samples.pop("darkroom_findings")  # no service runs next to this API
    assert samples == {
        "darkroom_queue_jobs": {(pool, status): 0 for pool in ("sdxl", "wan") for status in ("waiting", "running")},
        "darkroom_queue_oldest_waiting_seconds": {("sdxl",): 0, ("wan",): 0},
        "darkroom_leases": {("live",): 0, ("expired",): 0},
        "darkroom_view_position": {(view,): 0 for view in VIEWS},
        "darkroom_view_lag_events": {(view,): 0 for view in VIEWS},
        "darkroom_view_parked_events": {(view,): 0 for view in VIEWS},
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


async def test_what_waits_lags_and_is_leased_is_seen(site: Site, database: Database) -> None:
    await site.submit(quantity=1)
    await site.get("/v1/admin/projections")
    site.clock.tick(90)
    await site.submit(quantity=1)  # no view has it yet
    with database.connection() as connection:
        connection.execute(
            "insert into leases (job_id, attempt, worker, expires_at) values "
            "(gen_random_uuid(), 1, 'gpu-1', clock_timestamp() + interval '1 hour'), "
            "(gen_random_uuid(), 1, 'gpu-2', clock_timestamp() - interval '1 second')"
        )
        connection.execute(
            "insert into parked_events (view, slot, stream_id, position, reason) "
            "values ('library', 'live', gen_random_uuid(), 1, 'poisoned')"
        )
    samples = await everything(site.http)
    assert samples["darkroom_queue_oldest_waiting_seconds"] == {("sdxl",): 90, ("wan",): 0}
    assert set(samples["darkroom_view_lag_events"].values()) == {2}
    assert samples["darkroom_leases"] == {("live",): 1, ("expired",): 1}
    assert samples["darkroom_view_parked_events"][("library",)] == 1


async def test_requests_are_counted_by_route_and_status(site: Site) -> None:
    async def counted() -> Samples:
        return (await everything(site.http)).get("darkroom_http_requests_total", {})

    before = await counted()
    await site.http.get("/v1/jobs/00000000-0000-0000-0000-000000000000")
    await site.http.get("/v1/jobs/11111111-0000-0000-0000-000000000000")
    await site.http.get("/nothing/here")
    await site.http.get("/v1/jobs", headers={"Authorization": "Bearer wrong"})
    after = await counted()
    grown = {labels: count - before.get(labels, 0) for labels, count in after.items() if labels[2] != "/metrics"}
    assert {labels: count for labels, count in grown.items() if count} == {
        ("404", "GET", "/v1/jobs/{job_id}"): 2,
        ("404", "GET", "unrouted"): 1,
        ("401", "GET", "unrouted"): 1,
    }


async def test_a_process_counts_its_commits_and_event_streams(site: Site, server: AServer) -> None:
    before = await everything(site.http)
    await site.submit(quantity=1)
    async with server.events():
        during = await everything(site.http)
    after = await everything(site.http)

    def sample(samples: dict[str, Samples], name: str) -> float:
        return samples[name][()]

    assert sample(after, "darkroom_ledger_group_commits_sum") - sample(before, "darkroom_ledger_group_commits_sum") == 1
    assert sample(after, "darkroom_ledger_group_duration_seconds_sum") > 0
    assert sample(during, "darkroom_event_streams") == sample(before, "darkroom_event_streams") + 1


async def test_names_follow_the_conventions(site: Site) -> None:
    """What `promtool check metrics` asks for: base units, `_total` for counters alone, no type in a name."""
    await site.finished(quantity=1)
    response = await site.http.get("/metrics")
    families = [one for one in text_string_to_metric_families(response.text) if one.name.startswith("darkroom_")]
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"darkroom(_[a-z]+)+", family.name), family.name
        words = family.name.split("_")
        assert not {"ms", "milliseconds", "minutes", "hours", "kb", "mb", "percent", "total", "count", "sum"} & set(
            words
        )
        assert not {"counter", "gauge", "histogram", "summary"} & set(words)
        if family.type == "counter":
            assert all(one.name.endswith(("_total", "_created")) for one in family.samples), family.name
        assert family.documentation.endswith("."), family.name


async def test_every_figure_is_documented_and_no_other(site: Site) -> None:
    documented = re.findall(r"^\| `(darkroom_[a-z_]+)`", OPERATIONS.read_text("utf-8"), re.MULTILINE)
    text = (await site.http.get("/metrics")).text
    assert sorted(documented) == sorted(re.findall(r"^# TYPE (darkroom_[a-z_]+) ", text, re.MULTILINE))
