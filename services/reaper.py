"""Ends what nobody works on any more: leases that ran out are requeued, jobs past their deadline are aborted."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from domain.codec import UnknownEvent
from domain.commands import AbortJob, ExpireLease
from domain.errors import Refused
from projections.sql import load
from services import telemetry
from services.broker import Broker
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import Context, Ledger
from services.logs import about_job
from services.metrics import LEASES_EXPIRED

log = logging.getLogger(__name__)

SQL = load("reaper.sql", "services")

REAPER: Final = Context("reaper")

LOOK_S: Final = 1.0
"""How often it looks; short beside a lease."""


class Reaper:
    """Several may run: only the first to end an attempt is heard."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, lease_s: float) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._lease_s = lease_s
        self._patient_until = time.monotonic() + lease_s

    async def run(self, stop: asyncio.Event) -> None:
        """Look every second until stopped.

        While heartbeats cannot arrive, no lease can be renewed, so nobody is declared lost: for a whole lease after the
        start, and after an outage of Postgres or NATS, it only aborts what is overdue.
        """
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.abort_overdue)
                if not self._broker.connected:
                    self._patient_until = time.monotonic() + self._lease_s
                elif time.monotonic() > self._patient_until:
                    await asyncio.to_thread(self.expire_leases)
            except Unavailable as error:
                self._patient_until = time.monotonic() + self._lease_s
                log.warning("the reaper waits: %s", error)
            await _sleep(stop, LOOK_S)

    def expire_leases(self) -> list[UUID]:
        """Requeue (or give up) the jobs whose worker was not heard of for a lease; which."""
        with self._database.connection() as connection:
            expired = connection.execute(SQL["expired"], {"lease_s": self._lease_s}).fetchall()
            connection.execute(SQL["sweep"])
        return [job_id for job_id, attempt in expired if self._expire(job_id, attempt)]

    def abort_overdue(self) -> list[UUID]:
        """Abort the jobs whose deadline passed before they were started; which."""
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
        """Whether it changed anything. A job that cannot be ended holds up no other."""
        try:
            return bool(self._ledger.execute(job_id, command, REAPER).decision)
        except Refused as refusal:
            log.debug("job %s: %s", job_id, refusal)  # the view was behind: it ended meanwhile
        except UnknownEvent as error:
            log.error("job %s is left alone: %s", job_id, error)  # noqa: TRY400 - the sentence says it all
        return False


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _now() -> datetime:
    return datetime.now(UTC)
