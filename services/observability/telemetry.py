"""OpenTelemetry spans of a job, from the HTTP request through NATS to the worker. When off, nothing is imported.

On if the environment names a collector in OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_ENDPOINT` or
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. A job's id is its trace id, so every process knows the trace, even one that hands
the job out hours later: no context is stored. See `services.observability.spans`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from domain.envelope import Recorded, Unreadable

if TYPE_CHECKING:
    from services.observability.spans import Spans

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

Headers = Mapping[str, str]


class TelemetryMissing(Exception):
    """A collector is configured but the packages to reach it are not installed."""

    code = "telemetry_missing"


class Request(Protocol):
    """An HTTP request in progress."""

    def answered(self, *, method: str, route: str, status: int, request_id: str) -> None:
        """Record the result of the request; without this call it has no span."""


class _Unseen:
    def answered(self, *, method: str, route: str, status: int, request_id: str) -> None:
        pass


NO_ATTRIBUTES: Final[Mapping[str, str | int]] = MappingProxyType({})
NOTHING: Final[AbstractContextManager[None]] = nullcontext()
UNSEEN: Final[AbstractContextManager[Request]] = nullcontext(_Unseen())

_spans: "Spans | None" = None


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a collector and does not disable tracing."""
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not off and any(environment.get(name) for name in ENDPOINTS)


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Export spans in this block, if configured, and the last ones at its end, which takes at most 3 s.

    Raises `TelemetryMissing`. `service` is the service name if `OTEL_SERVICE_NAME` is not set.
    """
    global _spans  # noqa: PLW0603 - one exporter a process, as with its log
    if not wanted(os.environ):
        yield
        return
    try:
        from services.observability.spans import Spans  # noqa: PLC0415 - not where nobody wants it
    except ModuleNotFoundError as error:
        raise TelemetryMissing(
            f"{next(name for name in ENDPOINTS if os.environ.get(name))} is set, but the package {error.name} "
            "is missing: pip install 'darkroom[telemetry]', or unset it."
        ) from None
    _spans = Spans(service)
    try:
        yield
    finally:
        ending, _spans = _spans, None
        ending.end()


def job_span(
    name: str, job_id: UUID, attributes: Mapping[str, str | int] = NO_ATTRIBUTES, headers: Headers | None = None
) -> AbstractContextManager[None]:
    """A span of the job's trace: a child of the current span, else of the one in `headers`, else of the job."""
    return NOTHING if _spans is None else _spans.job_span(name, job_id, headers, attributes)


def batch_span(name: str, events: Sequence[Recorded | Unreadable]) -> AbstractContextManager[None]:
    """A span around work on many events: a trace of its own, linked to the traces of their jobs."""
    return NOTHING if _spans is None or not events else _spans.batch_span(name, events)


def headers() -> dict[str, str] | None:
    """The current span as message headers; None if there is none."""
    return None if _spans is None else _spans.headers()


def request(given: Headers) -> AbstractContextManager[Request]:
    """Wraps an HTTP request. A request that submits a job begins the job's trace, unless it is part of another."""
    return UNSEEN if _spans is None else _spans.request(given)


def submitted(job_id: UUID) -> None:
    """The current request submitted this job."""
    if _spans is not None:
        _spans.submitted(job_id)


def submitting(job_id: UUID, receipt: "Future[Any]") -> None:
    """The current request is submitting this job; its commit has not finished."""
    if _spans is not None:
        _spans.submitting(job_id, receipt)
