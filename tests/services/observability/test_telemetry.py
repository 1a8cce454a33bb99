"""Off without a trace of it; on, where a span belongs follows from the job alone."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.envelope import Unreadable
from services.ledger import JOB, Context, Ledger
from services.observability import telemetry
from services.observability.sampling import Ratio, ratio_wanted
from services.observability.spans import END_S_MAX, first_span_of
from services.observability.telemetry import TelemetryMissing, batch_span, exporting, job_span, wanted
from tests.collector import Collector, collecting
from tests.spec import SUBMIT

ROOT = Path(__file__).parents[3]
JOB_ID = UUID("018f0000-0000-7000-8000-000000000001")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
        yield collected


def unreadable(position: int) -> Unreadable:
    return Unreadable(position, JOB_ID, 1, "job.queued.v1", "damaged")


def test_off_imports_nothing() -> None:
    """FastAPI brings the interface of OpenTelemetry by itself; a worker and the other services load none of it."""
    program = (
        "import sys, gpu_worker.loop\n"
        "from services.queue import dispatcher, reaper, report_handler\n"
        "from services.files import thumbnails\n"
        "from services.views import projector\n"
        "from services.observability import telemetry\n"
        "with telemetry.exporting('x'), telemetry.job_span('x', None): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True, timeout=60)


def test_off_a_span_is_one_and_the_same_nothing() -> None:
    assert job_span("one", JOB_ID) is job_span("another", uuid4()) is batch_span("some", [unreadable(1)])
    assert telemetry.headers() is None


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_usual_variables_decide(environment: dict[str, str], on: bool) -> None:
    assert wanted(environment) is on


def test_a_missing_package_is_a_sentence(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "services.observability.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        pytest.raises(TelemetryMissing, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT is set, .* 'darkroom\[telemetry\]'"),
        exporting("test"),
    ):
        pass


def test_the_end_sends_what_is_left_and_a_span_without_context_finds_home(collector: Collector) -> None:
    with exporting("test"), job_span("hand out", JOB_ID, {"darkroom.attempt": 2}):
        sent = telemetry.headers()
    (span,) = collector.spans
    assert (span.service, span.name, span.trace_id) == ("test", "hand out", JOB_ID.hex)
    assert span.parent_id == f"{first_span_of(JOB_ID):016x}"
    assert span.attributes == {"darkroom.job_id": str(JOB_ID), "darkroom.attempt": 2}
    assert sent == {"traceparent": f"00-{JOB_ID.hex}-{span.span_id}-01"}


def test_a_message_of_another_job_gives_no_parent(collector: Collector) -> None:
    other = uuid4()
    with exporting("test"):
        with job_span("report", JOB_ID):
            sent = telemetry.headers()
        with job_span("record", other, headers=sent):
            pass
        with job_span("record", JOB_ID, headers={"traceparent": "00-what-is-this"}):
            pass
    assert [(one.trace_id, one.parent_id) for one in collector.spans[1:]] == [
        (each.hex, f"{first_span_of(each):016x}") for each in (other, JOB_ID)
    ]


def test_a_failure_is_marked_without_its_words(collector: Collector) -> None:
    with exporting("test"), pytest.raises(OSError, match="a-secret"), job_span("store", JOB_ID):
        raise OSError("the password was a-secret")
    (span,) = collector.spans
    assert span.failed
    assert span.attributes["error.type"] == "OSError"
    assert "a-secret" not in str(span.span)


def test_a_request_of_several_jobs_links_them(collector: Collector, memory_ledger: Ledger) -> None:
    jobs = [uuid4(), uuid4()]
    with exporting("test"), telemetry.request({}) as request:
        for job_id in jobs:
            memory_ledger.execute(JOB, job_id, replace(SUBMIT, job_id=job_id), Context("ada", "ada"))
            memory_ledger.execute(
                JOB, job_id, replace(SUBMIT, job_id=job_id), Context("ada", "ada")
            )  # again: nothing new
        request.answered(method="POST", route="/v1/batches", status=202, request_id="r-1")
    (root,) = [one for one in collector.spans if one.name == "POST /v1/batches"]
    assert root.links == [job_id.hex for job_id in jobs]
    begun = [one for one in collector.spans if one.name == "job"]
    assert [(one.trace_id, one.span_id, one.links) for one in begun] == [
        (job_id.hex, f"{first_span_of(job_id):016x}", [root.trace_id]) for job_id in jobs
    ]
    commits = [one for one in collector.spans if one.name == "ledger commit"]
    assert {(one.trace_id, one.parent_id) for one in commits} == {(one.trace_id, one.span_id) for one in begun}


def test_what_supervisors_ask_has_no_span(collector: Collector) -> None:
    with exporting("test"):
        for route in ("/readyz", "/metrics"):
            with telemetry.request({}) as request:
                request.answered(method="GET", route=route, status=200, request_id="r-1")
        with telemetry.request({}):
            pass  # the client left
    assert collector.spans == []


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio"),
    [
        ("", "", 1.0),
        ("parentbased_always_off", "", 0.0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "many", 1.0),
        ("parentbased_traceidratio", "7", 1.0),
    ],
)
def test_the_part_of_the_traces_that_is_wanted(sampler: str, argument: str, ratio: float) -> None:
    assert ratio_wanted({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}) == ratio


def test_a_ratio_takes_about_that_part_of_jobs() -> None:
    """Of UUIDs the library's own sampler takes all or none: the bits that it looks at are the same in each."""
    taken = sum(Ratio(0.25).takes(uuid4().int) for _ in range(4_000))
    assert 850 < taken < 1_150


def test_a_job_that_is_not_sampled_has_no_span_anywhere(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    with exporting("test"):
        with telemetry.request({}) as request:
            telemetry.submitted(JOB_ID)
            request.answered(method="POST", route="/v1/jobs", status=202, request_id="r-1")
        with job_span("attempt", JOB_ID):
            assert telemetry.headers() is not None
    assert collector.spans == []


def test_a_collector_that_is_away_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began_s = time.monotonic()
        with exporting("test"), job_span("attempt", JOB_ID):
            pass
        assert time.monotonic() - began_s < END_S_MAX + 2
    for thread in threading.enumerate():  # those that waited for an answer see that none comes
        if thread.name in {"telemetry-end", "OtelBatchSpanRecordProcessor"}:
            thread.join(20)
            assert not thread.is_alive()
