"""Turns workers' reports into commands, and answers after the commit. Workers hold no database credentials."""

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, assert_never

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from domain.commands import (
    ConfirmCancel,
    FailAttempt,
    JobCommand,
    NoteOfAttempt,
    ReleaseAttempt,
    ReportAssetCompleted,
    ReportAssetFailed,
    Reported,
    StartAttempt,
    WorkerCommand,
)
from domain.errors import Refused
from domain.job import Running, require_attempt
from projections.sql import load
from services import telemetry
from services.broker import Broker
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import Context, Ledger
from services.logs import about_job
from services.metrics import REPORTS_ANSWERED
from services.wire import (
    ANY_REPORT,
    RECORDERS,
    REPORTS,
    UNAVAILABLE,
    AnyReport,
    AssetCompletedReport,
    AssetFailedReport,
    AttemptFailedReport,
    AttemptReleasedReport,
    CancelConfirmedReport,
    HeartbeatReport,
    NoteReport,
    ReportReply,
    StartedReport,
    sender_of,
)

log = logging.getLogger(__name__)

SQL = load("recorder.sql", "services")

REPORTS_AT_ONCE_MAX: Final = 64
"""Reports being written at a time; more wait, and travel in the next group commit."""


class Recorder:
    """Several may run: each report goes to one of them."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, lease_s: float) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._lease_s = lease_s
        self._places = asyncio.Semaphore(REPORTS_AT_ONCE_MAX)
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Answer reports until stopped."""
        await self._broker.subscribe(REPORTS, self._on_message, queue=RECORDERS)
        await stop.wait()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def record(self, report: AnyReport, worker: str) -> ReportReply:
        """Bring a worker's report into the ledger. A repeat is answered like the first.

        Refused is one that comes late, or from a worker that does not have the attempt.
        """
        try:
            if isinstance(report, HeartbeatReport):
                return self._renew(report, worker)
            executed = self._ledger.execute(report.job_id, command_of(report, worker, now=_now()), Context(worker))
        except Refused as refusal:
            return ReportReply(accepted=False, code=refusal.code, detail=str(refusal))
        except Unavailable as error:
            return ReportReply(accepted=False, code=UNAVAILABLE, detail=str(error))
        job = executed.generation.job
        runs = isinstance(job, Running) and job.tries.attempt == report.attempt
        reached(Point.RECORDER_BEFORE_LEASE)
        self._keep_lease(report, worker, runs=runs)
        reached(Point.RECORDER_BEFORE_ANSWER)
        return ReportReply(accepted=True, cancel_requested=isinstance(job, Running) and job.cancel_requested)

    def _renew(self, report: HeartbeatReport, worker: str) -> ReportReply:
        with self._database.connection() as connection:
            row = connection.execute(SQL["renew"], self._lease(report, worker)).fetchone()
        if row is not None and row[0] is not None:
            return ReportReply(accepted=True, cancel_requested=row[0])
        # No lease, or the queue does not show the job: only the ledger knows whether the attempt is current.
        job = self._ledger.generation(report.job_id).job
        running = require_attempt(job, report.attempt, worker)
        self._keep_lease(report, worker, runs=True)
        return ReportReply(accepted=True, cancel_requested=running.cancel_requested)

    def _keep_lease(self, report: AnyReport, worker: str, *, runs: bool) -> None:
        """A lease that could not be written costs no more than a lease: the job's start counts until the heartbeat."""
        try:
            with self._database.connection() as connection:
                connection.execute(SQL["grant"] if runs else SQL["drop"], self._lease(report, worker), prepare=True)
        except Unavailable:
            log.warning("the lease of job %s was not written; the next heartbeat writes it", report.job_id)

    def _lease(self, report: AnyReport, worker: str) -> dict[str, object]:
        return {
            "job_id": report.job_id,
            "attempt": report.attempt,
            "worker": worker,
            "lease_s": self._lease_s,
        }

    async def _on_message(self, message: Msg) -> None:
        await self._places.acquire()
        task = asyncio.create_task(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            reply = await self._reply_to(message.data, sender_of(message.subject), message.headers)
            await message.respond(reply.model_dump_json().encode())
        except (NatsError, OSError) as error:
            log.warning("an answer was lost, the worker asks again: %s", error)
        finally:
            self._places.release()

    async def _reply_to(self, data: bytes, worker: str, headers: Mapping[str, str] | None = None) -> ReportReply:
        try:
            report = ANY_REPORT.validate_json(data)
        except ValidationError as error:
            log.warning(
                "a report of worker %s was not understood: %s", worker, error.errors(include_input=False)[0]["msg"]
            )
            return ReportReply(accepted=False, code="invalid_report", detail="The report does not fit this version.")
        with about_job(report.job_id, report.attempt, worker=worker):
            reply = await self._recorded(report, worker, headers)
        REPORTS_ANSWERED.labels(report.kind, reply.code or "accepted").inc()
        return reply

    async def _recorded(self, report: AnyReport, worker: str, headers: Mapping[str, str] | None) -> ReportReply:
        try:
            if isinstance(report, HeartbeatReport):
                return await asyncio.to_thread(self.record, report, worker)
            with telemetry.job_span(f"record {report.kind}", report.job_id, headers=headers):
                return await asyncio.to_thread(self.record, report, worker)
        except Exception:
            log.exception("report %s of job %s failed", report.kind, report.job_id)
            return ReportReply(accepted=False, code=UNAVAILABLE, detail="The recorder failed; send the report again.")


def command_of(report: AnyReport, worker: str, *, now: datetime) -> JobCommand:
    """The command that a worker's report asks for."""
    if isinstance(report, StartedReport):
        return StartAttempt(report.attempt, worker, now)
    return Reported(worker, _reported(report, now))


def _reported(report: AnyReport, now: datetime) -> WorkerCommand:
    match report:
        case NoteReport(note=note):
            return NoteOfAttempt(note, now)
        case AssetCompletedReport(index=index, completed=completed):
            return ReportAssetCompleted(index, completed, now)
        case AssetFailedReport(attempt=attempt, index=index, error=error):
            return ReportAssetFailed(attempt, index, error, now)
        case AttemptFailedReport(attempt=attempt, error=error):
            return FailAttempt(attempt, error, random.random(), now)  # noqa: S311 - jitter, not a secret
        case AttemptReleasedReport(attempt=attempt):
            return ReleaseAttempt(attempt, now)
        case CancelConfirmedReport(attempt=attempt):
            return ConfirmCancel(attempt, now)
        case HeartbeatReport() | StartedReport():
            raise ValueError("This report is not about what a running attempt made.")
        case _:
            assert_never(report)


def _now() -> datetime:
    return datetime.now(UTC)
