"""One job is one trace, from the HTTP request through NATS to the worker and back."""

from collections.abc import Callable
from itertools import chain
from uuid import UUID

import pytest

from tests.collector import Collected, Collector, collecting
from tests.system.installation import Installation

pytestmark = pytest.mark.slow

Make = Callable[..., Installation]

OF_A_JOB = {
    "POST /v1/jobs",
    "ledger commit",
    "hand out",
    "attempt",
    "report started",
    "record started",
    "load model",
    "render",
    "store",
    "report asset_completed",
    "record asset_completed",
    "thumbnail",
}


def test_the_spans_of_a_job_are_one_tree(make_installation: Make) -> None:
    with collecting() as collector:
        exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with make_installation(**exporting) as running:
            running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 30)
            job = running.done(running.submit(quantity=3))
            with_parent = running.request(
                "POST",
                "/v1/jobs",
                json={"job_type": "sdxl_image_fast", "prompt": "a fox", "quantity": 1},
                headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            ).json()
            assert job["status"] == running.done(with_parent)["status"] == "succeeded"
            for each in (job, with_parent):
                running.wait_until(lambda each=each: "attempt" in collector.names(trace_of(each)), 30)  # type: ignore[misc]
            running.wait_until(lambda: len(named(collector.trace(trace_of(job)), "thumbnail")) == 3, 30)
        # Ctrl-C sends what was left.
        spans = collector.trace(trace_of(job))
        assert {one.name for one in spans} == OF_A_JOB
        assert {one.service for one in spans} == {"darkroom", "darkroom-worker"}
        (root,) = [one for one in spans if not one.parent_id]
        assert (root.name, root.attributes["http.response.status_code"]) == ("POST /v1/jobs", 202)
        assert lineage(spans, "record asset_completed") == [
            "report asset_completed", "attempt", "hand out", "POST /v1/jobs",
        ]  # fmt: skip
        assert lineage(spans, "store") == ["render", "attempt", "hand out", "POST /v1/jobs"]
        assert [one.attributes["darkroom.index"] for one in named(spans, "store")] == [0, 1, 2]
        assert lineage(spans, "thumbnail") == ["POST /v1/jobs"]
        assert not any(one.failed for one in spans)
        batches = [one for one in collector.spans if one.name == "project"]
        assert any(trace_of(job) in one.links for one in batches)
        assert not any(one.parent_id for one in batches)
        told = " ".join(str(value) for value in chain.from_iterable(one.attributes.values() for one in collector.spans))
        assert "a fox" not in told
        assert running.token not in told
        of_the_client(collector, with_parent)


def of_the_client(collector: Collector, job: dict[str, str]) -> None:
    """A request that is part of another trace stays there, and links to that of its job."""
    (request,) = collector.trace("0af7651916cd43dd8448eb211c80319c")
    assert (request.name, request.parent_id) == ("POST /v1/jobs", "b7ad6b7169203331")
    assert request.links == [trace_of(job)]
    spans = collector.trace(trace_of(job))
    (root,) = [one for one in spans if not one.parent_id]
    assert (root.name, root.links) == ("job", [request.trace_id])
    assert lineage(spans, "render") == ["attempt", "hand out", "job"]


def trace_of(job: dict[str, str]) -> str:
    return UUID(job["id"]).hex


def named(spans: list[Collected], name: str) -> list[Collected]:
    return sorted((one for one in spans if one.name == name), key=lambda one: str(one.attributes))


def lineage(spans: list[Collected], name: str) -> list[str]:
    """The spans around the first of this name, inside out."""
    by_id = {one.span_id: one for one in spans}
    one = named(spans, name)[0]
    names = []
    while one.parent_id:
        one = by_id[one.parent_id]
        names.append(one.name)
    return names
