"""Prometheus counters of one process. Figures of the whole installation come from the views.

Names follow Prometheus' rules: a prefix, base units last, `_total` for counters. docs/operations.md lists them, and a
test compares the list. Counting costs a few microseconds, so it is always on.
"""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

# The creation time would be one more series for each, without use.
disable_created_metrics()  # type: ignore[no-untyped-call]

PROCESS: Final = CollectorRegistry()
"""All counters of this process."""

HTTP_REQUESTS: Final = Counter(
    "darkroom_http_requests", "HTTP requests that were answered.", ["method", "route", "status"], registry=PROCESS
)

HTTP_REQUEST_SECONDS: Final = Histogram(
    "darkroom_http_request_duration_seconds",
    "From a request's head to the head of its answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=PROCESS,
)

EVENT_STREAMS: Final = Gauge("darkroom_event_streams", "Event streams that are open.", registry=PROCESS)

EVENT_STREAMS_CUT_OFF: Final = Counter(
    "darkroom_event_streams_cut_off", "Event streams whose client did not keep up.", registry=PROCESS
)

GROUP_COMMITS: Final = Histogram(
    "darkroom_ledger_group_commits",
    "Commits that travelled to Postgres together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=PROCESS,
)

GROUP_SECONDS: Final = Histogram(
    "darkroom_ledger_group_duration_seconds",
    "From sending a group of commits to its answer, one fsync included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=PROCESS,
)

LEDGER_CONFLICTS: Final = Counter(
    "darkroom_ledger_conflicts", "Commits that found their streams changed; most are decided again.", registry=PROCESS
)

HAND_OUTS: Final = Counter(
    "darkroom_hand_outs",
    "Orders that the dispatcher sent to the work queue, which takes each attempt once.",
    ["pool"],
    registry=PROCESS,
)

REPORTS_ANSWERED: Final = Counter(
    "darkroom_reports",
    "Reports of workers that the recorder answered; the code is that of a refusal, else `accepted`.",
    ["kind", "code"],
    registry=PROCESS,
)

RELAY_POSITION: Final = Gauge(
    "darkroom_relay_position", "How far the relay has broadcast the ledger, as the broker says.", registry=PROCESS
)

LEDGER_STREAM_REFILLS: Final = Counter(
    "darkroom_ledger_stream_refills", "Times that the stream LEDGER was damaged and filled again.", registry=PROCESS
)

LEDGER_STREAM_COMPARED: Final = Counter(
    "darkroom_ledger_stream_compared",
    "Messages of the stream LEDGER that were held against the ledger.",
    registry=PROCESS,
)

ITEMS_PARKED: Final = Gauge(
    "darkroom_items_parked",
    "What a service passed over because it can do nothing with it.",
    ["service"],
    registry=PROCESS,
)

LEASES_EXPIRED: Final = Counter(
    "darkroom_leases_expired", "Attempts whose worker was not heard of for a lease.", registry=PROCESS
)

THUMBNAILS_TRIED: Final = Counter(
    "darkroom_thumbnails",
    "Thumbnails that were tried; the result is `made` or `put_off`.",
    ["result"],
    registry=PROCESS,
)

ProcessCollector(registry=PROCESS)
PlatformCollector(registry=PROCESS)


def serve_metrics(host: str, port: int) -> None:
    """Serve this process' counters on a separate port, without a token. Raises `OSError`."""
    start_http_server(port, host, PROCESS)
