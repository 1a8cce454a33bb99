"""`GET /metrics`: the figures of an installation for Prometheus, read from the views when it asks.

No process keeps a count of its own, so every process of the API answers the same, also after a restart.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response

from api.admin import VIEWS
from api.identity import require_admin
from api.openapi import answers
from api.parts import Running, running
from projections import reads
from projections.reads import EndedRow, PerformanceRow

router = APIRouter(tags=["admin"])

QUEUE_STATUSES = ("waiting", "running")


@router.get(
    "/metrics",
    response_model=None,
    response_class=Response,
    responses=answers({}, 403, 503) | {200: {"description": "Prometheus text.", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Queues, ended jobs, waits, seconds, ratios and how far the views are, as Prometheus reads them."""
    require_admin(request)
    figures = await asyncio.to_thread(_figures, running(request))
    registry = CollectorRegistry()
    registry.register(figures)
    return Response(generate_latest(registry), media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})


@dataclass(frozen=True, slots=True, eq=False)  # a registry wants to hash it
class Figures(Collector):
    """What the views said at one moment. `queued` is by pool and status, `positions` by view."""

    pools: Sequence[str]
    queued: Mapping[tuple[str, str], int]
    ended: Sequence[EndedRow]
    performance: Sequence[PerformanceRow]
    positions: Mapping[str, int]
    head: int

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        queued = GaugeMetricFamily("darkroom_queue_jobs", "Jobs that wait or run now.", labels=["pool", "status"])
        for pool in self.pools:
            for status in QUEUE_STATUSES:
                queued.add_metric([pool, status], self.queued.get((pool, status), 0))
        yield queued
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
        position = GaugeMetricFamily("darkroom_view_position", "How far a view has read the ledger.", labels=["view"])
        for view in VIEWS:
            position.add_metric([view], self.positions.get(view, 0))
        yield position
        yield GaugeMetricFamily("darkroom_ledger_position", "The last position of the ledger.", value=self.head)

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


def _summary(
    name: str, documentation: str, rows: Iterable[EndedRow], part: Callable[[EndedRow], tuple[int, float]]
) -> Metric:
    """Count and sum by pool and job type, however the jobs ended."""
    totals: dict[tuple[str, str], tuple[int, float]] = {}
    for row in rows:
        key = (row.pool, row.job_type)
        (count, seconds), (more, further) = totals.get(key, (0, 0.0)), part(row)
        totals[key] = (count + more, seconds + further)
    summary = SummaryMetricFamily(name, documentation, labels=["pool", "job_type"])
    for key, (count, seconds) in totals.items():
        summary.add_metric(list(key), count, seconds)
    return summary


def _figures(here: Running) -> Figures:
    with here.parts.database.connection() as connection:
        return Figures(
            pools=sorted(here.parts.catalog.pools()),
            queued=reads.queued_jobs(connection),
            ended=reads.ended_jobs(connection),
            performance=reads.performance(connection, here.parts.clock()),
            positions=reads.view_positions(connection),
            head=reads.ledger_head(connection),
        )
