"""Ends abandoned work: expired leases are requeued, jobs past their deadline are aborted."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from domain.commands import AbortJob, ExpireLease
from domain.errors import Refused
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import JOB, Context, Ledger
from services.messaging.broker import Broker
from services.observability import progress, telemetry
from services.observability.logs import about_job
from services.observability.metrics import LEASES_EXPIRED
from services.observability.parking import park, unpark

log = logging.getLogger(__name__)

SQL = load("reaper.sql", "services.queue")

REAPER: Final = Context("reaper")

LOOK_S: Final = 1.0
"""Seconds between two checks; short compared to a lease."""


MANY: Final = 3
"""If at least this many running jobs, and more than half of all, lose their leases at once, the cause is a clock or
network problem rather than dead workers. They get one more lease."""

JUMP_SHARE: Final = 1 / 6
"""Share of a lease. If Postgres' clock differs from the monotonic one by more than this within a lease, it jumped. A
worker renews its lease three times before it expires."""

CLOCK_REMEDY: Final = "Let the machine of Postgres follow a time server that slews its clock; nothing is lost."

Attempt = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Look:
    """One answer of Postgres: the jump of its clock since the last check in seconds, and the running jobs.

    `running` is their number; `expired` holds those attempts with an expired lease.
    """

    jumped_s: float
    running: int
    expired: frozenset[Attempt]


class Jumps:
    """Compares Postgres' clock with the monotonic one of this process."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._base: tuple[float, float, float] | None = None

    def since(self, asked_s: float, there_s: float, answered_s: float) -> float:
        """Seconds by which Postgres' clock jumped; 0 for an insignificant difference.

        `there_s` was read between `asked_s` and `answered_s` of the monotonic clock, however long that took.
        """
        base = self._base
        if base is None or answered_s - base[2] > self._lease_s:
            self._base = asked_s, there_s, answered_s
            if base is None:
                return 0.0
        first_asked_s, first_there_s, first_answered_s = base
        there = there_s - first_there_s
        shortest, longest = asked_s - first_answered_s, answered_s - first_asked_s
        jumped_s = there - min(max(there, shortest), longest)
        if abs(jumped_s) < self._lease_s * JUMP_SHARE:
            return 0.0
        self._base = asked_s, there_s, answered_s
        return jumped_s


class Reaper:
    """Several may run: only the first to end an attempt has an effect."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, lease_s: float) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._lease_s = lease_s
        self._said = progress.of("reaper")
        self._jumps = Jumps(lease_s)
        self._patient_until = time.monotonic() + lease_s
        self._doubts_clock_until = 0.0
        self._waited_for: frozenset[Attempt] = frozenset()

    async def run(self, stop: asyncio.Event) -> None:
        """Check every second until stopped.

        While heartbeats cannot arrive, no lease can be renewed, so no worker is declared lost: for a whole lease after
        the start, after an outage of Postgres or NATS, after a jump of Postgres' clock, and when most running jobs seem
        to be lost at once. Overdue jobs are aborted during that time too, except after a jump of the clock.
        """
        while not stop.is_set():
            try:
                if not self._broker.connected:
                    self._be_patient()
                await asyncio.to_thread(self.look)
            except Unavailable as error:
                self._be_patient()
                self._said.waits(error)
                log.warning("the reaper waits: %s", error)
            await _sleep(stop, LOOK_S)

    def look(self) -> None:
        """Check once: abort overdue jobs, and requeue jobs of lost workers unless there is doubt."""
        there = self._read()
        if there.jumped_s:
            way = "forward" if there.jumped_s > 0 else "back"
            self._doubt(f"the clock of Postgres jumped {way} by {abs(there.jumped_s):.0f} s")
            self._doubts_clock_until = self._patient_until
        if time.monotonic() >= self._doubts_clock_until:
            self.abort_overdue()
        doubtful = there.expired - self._waited_for
        if time.monotonic() < self._patient_until:
            self._waited_for = there.expired
        elif len(doubtful) >= MANY and 2 * len(doubtful) > there.running:
            self._waited_for = there.expired
            self._doubt(f"{len(doubtful)} of {there.running} running jobs lost their leases in one moment")
        else:
            self._waited_for = frozenset()
            self._expire_all(there.expired)
            self._said.looked()
        self._tidy()

    def _be_patient(self) -> None:
        self._patient_until = time.monotonic() + self._lease_s

    def _doubt(self, reason: str) -> None:
        self._be_patient()
        self._said.waits(reason, "clock_jumped", CLOCK_REMEDY)
        log.warning("%s: for %g s no lease runs out, workers that live renew theirs", reason, self._lease_s)

    def expire_leases(self) -> list[UUID]:
        """Requeue or give up the jobs with a worker that was silent for a lease; returns their ids."""
        expired = self._expire_all(self._read().expired)
        self._tidy()
        return expired

    def _read(self) -> Look:
        with self._database.connection() as connection:
            asked_s = time.monotonic()
            rows = connection.execute(SQL["expired"], {"lease_s": self._lease_s}).fetchall()
            answered_s = time.monotonic()
        there_s, running, *_ = rows[0]
        expired = frozenset((job_id, attempt) for *_, job_id, attempt in rows if job_id is not None)
        return Look(self._jumps.since(asked_s, there_s, answered_s), running, expired)

    def _expire_all(self, expired: Iterable[Attempt]) -> list[UUID]:
        return [job_id for job_id, attempt in expired if self._expire(job_id, attempt)]

    def _tidy(self) -> None:
        with self._database.connection() as connection:
            connection.execute(SQL["shorten"], {"lease_s": self._lease_s})
            connection.execute(SQL["sweep"])

    def abort_overdue(self) -> list[UUID]:
        """Abort the jobs that had not started at their deadline; returns their ids."""
        with self._database.connection() as connection:
            overdue = [job_id for (job_id,) in connection.execute(SQL["overdue"]).fetchall()]
        return [job_id for job_id in overdue if self._abort(job_id)]

    def _expire(self, job_id: UUID, attempt: int) -> bool:
        said = {"darkroom.attempt": attempt}
        with about_job(job_id, attempt), telemetry.job_span("expire lease", job_id, said):
            expired = self._execute(job_id, ExpireLease(attempt, _now()))
            if expired:
                reached(Point.REAPER_AFTER_REQUEUE)
                LEASES_EXPIRED.inc()
                log.warning("job %s attempt %d lost its worker", job_id, attempt)
        return expired

    def _abort(self, job_id: UUID) -> bool:
        with about_job(job_id), telemetry.job_span("abort", job_id):
            return self._execute(job_id, AbortJob(_now()))

    def _execute(self, job_id: UUID, command: AbortJob | ExpireLease) -> bool:
        """Whether it changed anything. A job that cannot be ended does not block others."""
        try:
            executed = self._ledger.execute(JOB, job_id, command, REAPER)
        except Refused as refusal:
            log.debug("job %s: %s", job_id, refusal)  # the view was behind: the job has ended
        except Unavailable:
            raise
        except Exception as error:  # a fault of one job must not affect the others
            park(
                "reaper", job_id, f"job {job_id} is left alone: {type(error).__name__}: {error}; run `darkroom verify`"
            )
        else:
            unpark("reaper", job_id)
            return bool(executed.decision)
        return False


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _now() -> datetime:
    return datetime.now(UTC)
