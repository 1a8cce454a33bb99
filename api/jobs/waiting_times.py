"""The place of a waiting job, the estimate of when it is finished, and why it waits."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from api.state import ApiState
from domain.json_type import Json
from domain.policies.waiting import NOTHING, Span, finished_in, rest_of
from projections.reads import jobs as reads
from projections.reads.jobs import JobRow, Seconds
from services.queue.fleet import PoolRow, WorkerRow, read_pools, read_workers
from services.queue.queue_positions import QueuePosition, places_in_queue

EXPECTED_S_UNKNOWN = 10.0
"""Seconds per asset of a job type that the catalog no longer has."""

HELD_NAMED_MAX = 3
"""Maximum number of workers that a sentence names."""

RATIO_UNKNOWN = Seconds(1.0, 1.5)
"""Ratio of actual to expected seconds for a pool without ended jobs."""


def waiting_documents(running: ApiState, rows: Sequence[JobRow]) -> dict[UUID, Json]:
    """`Place` of each waiting job among these.

    The queue contains the jobs of all owners, so this counts more than the owner may read.
    """
    if not rows:
        return {}
    handed_out = running.handed_out.now()
    with running.parts.database.connection() as connection:
        places = places_in_queue(connection, [row.job_id for row in rows], handed_out)
        if not places:  # the queue view is ahead: they are running
            return {}
        pools = {row.pool: row for row in read_pools(connection, sorted({row.pool for row in rows}))}
        workers = read_workers(connection)
        queued, ratios = reads.queued_jobs(connection), reads.recent_ratios(connection)
        of_types = reads.recent_ratios_of_types(connection)
    fleet = _Fleet(running, workers, queued, ratios)
    return {
        row.job_id: _document(row, places[row.job_id], pools[row.pool], fleet, of_types.get(row.recipe["job_type"]))
        for row in rows
        if row.job_id in places
    }


class _Fleet:
    """The workers that can take jobs, and their remaining work."""

    def __init__(
        self,
        running: ApiState,
        workers: Sequence[WorkerRow],
        queued: Mapping[tuple[str, str], int],
        ratios: Mapping[str, Seconds],
    ) -> None:
        self._running = running
        alive = [row for row in workers if row.is_alive]
        self._workers = [row for row in alive if row.hold is None]
        self._held = [row for row in alive if row.hold is not None]
        self._queued = queued
        self._ratios = ratios

    def rests(self, pool: str) -> list[Span]:
        """The remaining time of each worker of the pool, including its work for other pools.

        Workers of an older version do not announce themselves: then the workers with a job of the pool count.
        """
        rests = [self._rest(row) for row in self._workers if pool in (row.pools or ())]
        if not rests:
            return [self.of(pool, EXPECTED_S_UNKNOWN)] * self._queued.get((pool, "running"), 0)
        return rests

    def why_no_worker(self, pool: str) -> str:
        """A sentence on why no worker takes jobs of the pool."""
        held = [row.name for row in self._held if pool in (row.pools or ())]
        if not held:
            return f"No worker for the pool {pool} is running."
        names = ", ".join(held[:HELD_NAMED_MAX]) + (" and others" if len(held) > HELD_NAMED_MAX else "")
        return f"Operators hold the workers of the pool {pool} back: {names}. The job starts after one is resumed."

    def share(self, pool: str) -> float:
        """The factor, from 1, by which jobs are slower because workers of the pool also take jobs of other pools."""
        mine = [row.pools or () for row in self._workers if pool in (row.pools or ())]
        shares = [1 / max(1, sum(1 for each in pools if self._waits(each) or each == pool)) for pools in mine]
        return len(shares) / sum(shares) if shares else 1.0

    def of(self, pool: str, expected_s: float) -> Span:
        """The duration of a job with this expected duration in seconds."""
        return _times(expected_s, self._ratios.get(pool, RATIO_UNKNOWN))

    def _rest(self, row: WorkerRow) -> Span:
        if row.job_id is None or row.attempt is None or row.job_pool is None:
            return NOTHING
        steps = self._running.progress.latest(row.job_id, row.attempt)
        done = steps.step / steps.total if steps is not None and steps.total > 0 else None
        whole = self.of(row.job_pool, row.job_cost_s or EXPECTED_S_UNKNOWN)
        return rest_of(whole, max(0.0, row.job_elapsed_s or 0.0), done)

    def _waits(self, pool: str) -> bool:
        return self._queued.get((pool, "waiting"), 0) > 0


def _document(row: JobRow, standing: QueuePosition, pool: PoolRow, fleet: _Fleet, ratio: Seconds | None) -> Json:
    """`ratio` is of recent jobs of the same type."""
    own = fleet.of(row.pool, standing.cost_s) if ratio is None else _times(standing.cost_s, ratio)
    rests = fleet.rests(row.pool)
    share = fleet.share(row.pool)
    ahead = [fleet.of(row.pool, each).times(share) for each in standing.ahead_s]
    eta = finished_in(rests, ahead, own)
    waits_for, since, detail = None, None, None
    if pool.hold is not None:
        why = f": {pool.hold_reason}" if pool.hold_reason else ""
        waits_for, since, eta = "pool_paused", pool.held_since, None
        detail = f"The pool {row.pool} is paused{why}. The job starts after it is resumed."
    elif not rests:
        waits_for, detail = "no_worker", fleet.why_no_worker(row.pool)
        since = max(pool.last_seen_at, row.created_at) if pool.last_seen_at and row.created_at else row.created_at
    elif not standing.is_due:
        waits_for, detail = "next_attempt", "The last attempt failed; the next one starts in a moment."
    return {
        "position": standing.position,
        "eta_s": None if eta is None else round(eta.p50, 1),
        "eta_p90_s": None if eta is None else round(eta.p90, 1),
        "workers": len(rests),
        "waits_for": waits_for,
        "waits_since": since,
        "detail": detail,
    }


def _times(expected_s: float, ratio: Seconds) -> Span:
    return Span(expected_s * ratio.p50, expected_s * ratio.p90)
