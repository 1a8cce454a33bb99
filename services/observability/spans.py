"""The spans behind `services.observability.telemetry`, imported only if a collector is configured.

**The trace of a job.** Its trace id is the job's id, and the id of its first span follows from it. So any process can
add a span to a job's trace, at any time after the submission and even if NATS lost every message. A message names the
span from which it was sent (`traceparent`), for the order within the trace; a span without it still belongs to the
trace.

**The request.** A request that submits one job is the first span of that job's trace. A request with a `traceparent`,
or with several jobs, has a trace of its own; each job then begins with a span `job` that links to it. This is only
known at the end, so the span is created then, with the time of its beginning.

**The batch.** Work on the events of many jobs is not part of one job. Its span has a trace of its own, linked to those
of the jobs, as OpenTelemetry's messaging conventions say for batches.
"""

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from itertools import islice
from os import environ
from typing import Any, Final
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from domain.envelope import Recorded, Unreadable
from services.observability.sampling import Ratio, ratio_wanted

END_S_MAX: Final = 3.0
"""Maximum seconds to send remaining spans at the end: a collector that is down must not block the exit."""

EXPORT_S_MAX: Final = 5.0

LINKS_MAX: Final = 128
"""Maximum number of links of a batch span, OpenTelemetry's default. The first ones are kept."""

UNTOLD: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths without spans: supervisors request them every few seconds."""

PROPAGATOR: Final = TraceContextTextMapPropagator()

_JOBS: ContextVar[list[UUID] | None] = ContextVar("darkroom_submitted", default=None)
_IDS: ContextVar[tuple[int, int] | None] = ContextVar("darkroom_span_ids", default=None)


def first_span_of(job_id: UUID) -> int:
    """The id of a job's first span: the same in every process."""
    return int.from_bytes(hashlib.sha256(job_id.bytes).digest()[:8]) or 1


class GivenIds(RandomIdGenerator):
    """Random ids, except for spans with a given id."""

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        ids = _IDS.get()
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        """See `IdGenerator`."""
        ids = _IDS.get()
        return super().generate_span_id() if ids is None else ids[1]


def jobs_of(events: Sequence[Recorded | Unreadable]) -> list[UUID]:
    """The jobs of readable events, each once, in the order of first appearance."""
    told = (event for event in events if isinstance(event, Recorded) and event.name.startswith(("job.", "asset.")))
    return list(dict.fromkeys(event.envelope.correlation_id for event in told))


class Spans:
    """One exporter, for the whole process."""

    def __init__(self, service: str) -> None:
        self._ratio = Ratio(ratio_wanted(environ))
        name = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
        self._provider = TracerProvider(
            resource=Resource.create(name),
            sampler=ParentBased(self._ratio),
            id_generator=GivenIds(),
            shutdown_on_exit=False,
        )
        self._exporter = OTLPSpanExporter(timeout=EXPORT_S_MAX)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("darkroom")

    def end(self) -> None:
        """Send the remaining spans, within `END_S_MAX`."""
        ending = threading.Thread(target=self._provider.shutdown, name="telemetry-end", daemon=True)
        ending.start()
        ending.join(END_S_MAX)
        if ending.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it tries no more

    def job_span(
        self, name: str, job_id: UUID, headers: Mapping[str, str] | None, attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[None]:
        """See `services.observability.telemetry.job_span`."""
        return self._around(name, self._context(job_id, headers), {"darkroom.job_id": str(job_id), **attributes})

    def batch_span(self, name: str, events: Sequence[Recorded | Unreadable]) -> AbstractContextManager[None]:
        """See `services.observability.telemetry.batch_span`."""
        jobs = jobs_of(events)
        traced = (job_id for job_id in jobs if self._ratio.takes(job_id.int))
        links = [Link(self._first(job_id)) for job_id in islice(traced, LINKS_MAX)]
        said = {"darkroom.events": len(events), "darkroom.jobs": len(jobs), "darkroom.position": events[-1].position}
        return self._around(name, Context(), said, links)

    def headers(self) -> dict[str, str] | None:
        """See `services.observability.telemetry.headers`."""
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier)
        return carrier or None

    @contextmanager
    def request(self, given: Mapping[str, str]) -> Iterator["_Request"]:
        """See `services.observability.telemetry.request`."""
        seen = _Request()
        token = _JOBS.set(seen.jobs)
        try:
            yield seen
        finally:
            _JOBS.reset(token)
            if seen.attributes and seen.attributes["http.route"] not in UNTOLD:
                self._tell(seen, given)

    def submitted(self, job_id: UUID) -> None:
        """See `services.observability.telemetry.submitted`."""
        jobs = _JOBS.get()
        if jobs is not None:
            jobs.append(job_id)

    def submitting(self, job_id: UUID, receipt: "Future[Any]") -> None:
        """See `services.observability.telemetry.submitting`."""
        began_ns, jobs = time.time_ns(), _JOBS.get()

        def committed(done: "Future[Any]") -> None:
            error = done.exception()
            span = self._tracer.start_span(
                "ledger commit",
                self._context(job_id, None),
                attributes={"darkroom.job_id": str(job_id), "darkroom.command": "SubmitJob"},
                start_time=began_ns,
            )
            if error is not None:
                span.set_attribute("error.type", str(getattr(error, "code", type(error).__name__)))
            elif jobs is not None and not done.result().repeated:
                jobs.append(job_id)
            span.end()

        receipt.add_done_callback(committed)

    @contextmanager
    def _around(
        self, name: str, context: Context, attributes: Mapping[str, str | int], links: Sequence[Link] = ()
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context,
            attributes=attributes,
            links=links,
            record_exception=False,  # its message may quote the owner's private text
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", str(getattr(error, "code", type(error).__name__)))
                span.set_status(Status(StatusCode.ERROR))
                raise

    def _context(self, job_id: UUID, headers: Mapping[str, str] | None) -> Context:
        """The parent of a span of this job."""
        current = trace.get_current_span().get_span_context()
        if current.trace_id == job_id.int:
            return trace.set_span_in_context(trace.get_current_span())
        if headers is not None:
            told = PROPAGATOR.extract(headers, Context())
            if trace.get_current_span(told).get_span_context().trace_id == job_id.int:
                return told
        return trace.set_span_in_context(NonRecordingSpan(self._first(job_id)), Context())

    def _first(self, job_id: UUID) -> SpanContext:
        flags = TraceFlags.SAMPLED if self._ratio.takes(job_id.int) else TraceFlags.DEFAULT
        return SpanContext(job_id.int, first_span_of(job_id), is_remote=True, trace_flags=TraceFlags(flags))

    def _tell(self, seen: "_Request", given: Mapping[str, str]) -> None:
        parent = PROPAGATOR.extract({name.lower(): value for name, value in given.items()}, Context())
        has_parent = trace.get_current_span(parent).get_span_context().is_valid
        is_first = len(seen.jobs) == 1 and not has_parent
        links = [] if is_first else [Link(self._first(job_id)) for job_id in seen.jobs]
        ids = (seen.jobs[0].int, first_span_of(seen.jobs[0])) if is_first else None
        span = self._begun(seen.name, seen, ids, parent, links, SpanKind.SERVER)
        span.set_attributes(seen.attributes)
        if seen.is_failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        for job_id in [] if is_first else seen.jobs:
            ids = (job_id.int, first_span_of(job_id))
            job = self._begun("job", seen, ids, Context(), [Link(span.get_span_context())], SpanKind.INTERNAL)
            job.set_attribute("darkroom.job_id", str(job_id))
            job.end()

    def _begun(
        self,
        name: str,
        seen: "_Request",
        ids: tuple[int, int] | None,
        parent: Context,
        links: Sequence[Link],
        kind: SpanKind,
    ) -> trace.Span:
        token = _IDS.set(ids)
        try:
            return self._tracer.start_span(name, parent, kind, links=links, start_time=seen.began_ns)
        finally:
            _IDS.reset(token)


class _Request:
    """See `services.observability.telemetry.Request`."""

    def __init__(self) -> None:
        self.began_ns = time.time_ns()
        self.jobs: list[UUID] = []
        self.name = ""
        self.is_failed = False
        self.attributes: dict[str, str | int] = {}

    def answered(self, *, method: str, route: str, status: int, request_id: str) -> None:
        self.name = f"{method} {route}"
        self.is_failed = status >= 500
        self.attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "darkroom.request_id": request_id,
        }
        if len(self.jobs) == 1:
            self.attributes["darkroom.job_id"] = str(self.jobs[0])
