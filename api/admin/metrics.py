"""`GET /metrics`: the figures of an installation for Prometheus, read from the views, and those of this process.

Figures of the installation are not counted in memory, so every API process answers the same, also after a restart. A
process counts only its own figures, like the duration of its answers: `services.observability.metrics`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response

from api.admin.views_and_queues import VIEWS
from api.http.identity import require_admin
from api.http.openapi import answers
from api.state import ApiState, state_of
from projections.reads import gauges
from projections.reads import jobs as reads
from projections.reads.jobs import EndedRow, PerformanceRow
from services.observability.checks import ServiceReport, reported
from services.observability.findings import Facts, Finding
from services.observability.metrics import PROCESS

router = APIRouter(tags=["admin"])

QUEUE_STATUSES = ("waiting", "running")
LEASE_STATES = ("live", "expired")


@router.get(
    "/metrics",
    response_model=None,
    response_class=Response,
    responses=answers({}, 403, 503)
    | {200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Queues, ended jobs, waits, seconds, ratios and the progress of the views, in Prometheus' format."""
    require_admin(request)
    state = state_of(request)
    found = await state.watch.findings()
    figures = await asyncio.to_thread(_figures, state)
    registry = CollectorRegistry()
    registry.register(figures)
    registry.register(Findings(found))
    content = generate_latest(registry) + generate_latest(PROCESS)
    return Response(content, media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})


@dataclass(frozen=True, slots=True, eq=False)  # a registry needs to hash it
class Figures(Collector):
    """The figures of the views at one moment.

    `queued` is by pool and status, `oldest_s` by pool, `positions` by view.
    """

    pools: Sequence[str]
    queued: Mapping[tuple[str, str], int]
    oldest_s: Mapping[str, float]
    ended: Sequence[EndedRow]
    performance: Sequence[PerformanceRow]
    positions: Mapping[str, int]
    head: int
    parked: Mapping[str, int]
    leases: Mapping[str, int]
    services: Mapping[str, Sequence[ServiceReport]]

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        queued = GaugeMetricFamily("darkroom_queue_jobs", "Jobs that wait or run now.", labels=["pool", "status"])
        for pool in self.pools:
            for status in QUEUE_STATUSES:
                queued.add_metric([pool, status], self.queued.get((pool, status), 0))
        yield queued
        oldest = GaugeMetricFamily(
            "darkroom_queue_oldest_waiting_seconds",
            "How long the oldest waiting job has waited; 0 for none.",
            labels=["pool"],
        )
        for pool in self.pools:
            oldest.add_metric([pool], self.oldest_s.get(pool, 0.0))
        yield oldest
        leases = GaugeMetricFamily(
            "darkroom_leases",
            "Running attempts by their lease; an expired one is about to be requeued.",
            labels=["state"],
        )
        for state in LEASE_STATES:
            leases.add_metric([state], self.leases.get(state, 0))
        yield leases
        ended = CounterMetricFamily("darkroom_jobs_ended", "Jobs that ended.", labels=["pool", "job_type", "status"])
        for row in self.ended:
            ended.add_metric([row.pool, row.job_type, row.status], row.jobs)
        yield ended
        yield _summary(
            "darkroom_job_wait_seconds",
            "From submission to the first start, of jobs that ended.",
            self.ended,
            lambda row: (row.waits, row.wait_s),
        )
        yield _summary(
            "darkroom_job_seconds",
            "From the last start to the end, of jobs that ended while a worker had them.",
            self.ended,
            lambda row: (row.runs, row.actual_s),
        )
        yield self._ratios()
        yield from self._views()
        yield from self._services()
        yield GaugeMetricFamily("darkroom_ledger_position", "The last position of the ledger.", value=self.head)

    def _views(self) -> Iterator[Metric]:
        position = GaugeMetricFamily("darkroom_view_position", "How far a view has read the ledger.", labels=["view"])
        lag = GaugeMetricFamily("darkroom_view_lag_events", "Events that a view has not read yet.", labels=["view"])
        parked = GaugeMetricFamily(
            "darkroom_view_parked_events", "Events that a view could not take and keeps aside.", labels=["view"]
        )
        for view in VIEWS:
            at = self.positions.get(view, 0)
            position.add_metric([view], at)
            lag.add_metric([view], max(0, self.head - at))
            parked.add_metric([view], self.parked.get(view, 0))
        yield from (position, lag, parked)

    def _services(self) -> Iterator[Metric]:
        silent = GaugeMetricFamily(
            "darkroom_service_silent_seconds", "Since a service reported how it is.", labels=["service"]
        )
        idle = GaugeMetricFamily(
            "darkroom_service_idle_seconds", "Since a service finished a step, also an empty one.", labels=["service"]
        )
        waits = GaugeMetricFamily(
            "darkroom_service_waiting_seconds", "How long a service has waited; 0 while it works.", labels=["service"]
        )
        for service, (last, *_) in self.services.items():
            silent.add_metric([service], last.silent_s)
            idle.add_metric([service], last.idle_s)
            waits.add_metric([service], last.waits_s or 0.0)
        yield from (silent, idle, waits)

    def _ratios(self) -> Metric:
        ratios = GaugeMetricFamily(
            "darkroom_performance_ratio",
            "Actual over expected seconds, the mean of jobs that succeeded within the last hour in one attempt.",
            labels=["job_type", "model"],
        )
        for row in self.performance:
            if row.ratio_mean is not None:
                ratios.add_metric([row.job_type, row.model], row.ratio_mean)
        return ratios


@dataclass(frozen=True, slots=True, eq=False)
class Findings(Collector):
    """The findings of an installation, by code: see `services.observability`."""

    found: Sequence[Finding]

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        counted = Counter((finding.code, finding.severity) for finding in self.found)
        findings = GaugeMetricFamily(
            "darkroom_findings",
            "What is wrong now, as /readyz says it; an `error` makes the installation unusable.",
            labels=["code", "severity"],
        )
        for (code, severity), count in sorted(counted.items()):
            findings.add_metric([code, severity], count)
        yield findings


def _summary(
    name: str, documentation: str, rows: Iterable[EndedRow], part: Callable[[EndedRow], tuple[int, float]]
) -> Metric:
    """Count and sum by pool and job type, for all outcomes."""
    totals: dict[tuple[str, str], tuple[int, float]] = {}
    for row in rows:
        key = (row.pool, row.job_type)
        (count, seconds), (more, further) = totals.get(key, (0, 0.0)), part(row)
        totals[key] = (count + more, seconds + further)
    summary = SummaryMetricFamily(name, documentation, labels=["pool", "job_type"])
    for key, (count, seconds) in totals.items():
        summary.add_metric(list(key), count, seconds)
    return summary


def _figures(state: ApiState) -> Figures:
    with state.parts.database.connection() as connection:
        return Figures(
            pools=sorted(state.parts.catalog.pools()),
            queued=reads.queued_jobs(connection),
            ended=reads.ended_jobs(connection),
            performance=reads.performance(connection, state.parts.clock()),
            positions=reads.view_positions(connection),
            head=reads.ledger_head(connection),
            oldest_s=gauges.oldest_waiting_s(connection, state.parts.clock()),
            parked=gauges.parked_by_view(connection),
            leases=gauges.leases(connection),
            services=reported(Facts(connection)),
        )
