"""Turns workers' reports into commands and answers after the commit. Workers hold no database credentials."""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from domain.aggregates.job import Running, require_attempt
from domain.commands import (
    ConfirmCancel,
    FailAttempt,
    Held,
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
from projections.arrays import int4s, texts, uuids
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable, WritesStopped
from services.ledger import JOB, Context, Executed, Instruction, JobExecuted, Ledger
from services.messaging.broker import Broker
from services.messaging.wire import (
    ANY_REPORT,
    INVALID_REPORT,
    RECORDER_FAILED,
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
    is_worker_name,
    sender_of,
)
from services.observability import telemetry
from services.observability.logs import about_job
from services.observability.metrics import REPORTS_ANSWERED
from services.queue.fleet import Holds

log = logging.getLogger(__name__)

SQL = load("report_handler.sql", "services.queue")

REPORTS_AT_ONCE_MAX: Final = 64
"""Maximum number of reports processed at a time; more wait in NATS."""


NOTHING_HELD: Final = Held()


@dataclass(frozen=True, slots=True)
class Said:
    """A report and its worker."""

    report: AnyReport
    worker: str


class ReportHandler:
    """Several may run: each report goes to one of them."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, lease_s: float) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._lease_s = lease_s
        self._holds = Holds(database)
        self._places = asyncio.Semaphore(REPORTS_AT_ONCE_MAX)
        self._answering: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Said, asyncio.Future[ReportReply]]] = []
        self._is_writing = False

    async def run(self, stop: asyncio.Event) -> None:
        """Answer reports until stopped."""
        await self._broker.subscribe(REPORTS, self._on_message, queue=RECORDERS)
        await stop.wait()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def record(self, report: AnyReport, worker: str) -> ReportReply:
        """Append a worker's report to the ledger. A repeat gets the same answer.

        Late reports, and reports of a worker that does not have the attempt, are refused.
        """
        if isinstance(report, HeartbeatReport):
            return self._heard(report, worker)
        (reply,) = self.record_each([Said(report, worker)])
        return reply

    def record_each(self, said: Sequence[Said]) -> list[ReportReply]:
        """Record several reports, none a heartbeat, with one read, one group commit and one update of the leases."""
        held = self._holds.now() if any(isinstance(one.report, StartedReport) for one in said) else NOTHING_HELD
        asked = [
            Instruction(
                JOB, one.report.job_id, command_of(one.report, one.worker, now=_now(), held=held), Context(one.worker)
            )
            for one in said
        ]
        try:
            outcomes: Sequence[JobExecuted | Exception] = self._ledger.execute_each(asked)
        except Unavailable as error:
            outcomes = [error] * len(said)
        if any(isinstance(outcome, Refused) for outcome in outcomes):
            outcomes = self._while_stopped(outcomes)
        reached(Point.RECORDER_BEFORE_LEASE)
        self._keep_leases(
            [
                (one, _runs(outcome, one.report.attempt))
                for one, outcome in zip(said, outcomes, strict=True)
                if isinstance(outcome, Executed)
            ]
        )
        reached(Point.RECORDER_BEFORE_ANSWER)
        return [_reply(one.report, outcome) for one, outcome in zip(said, outcomes, strict=True)]

    def _record_alone(self, one: Said) -> ReportReply:
        try:
            (reply,) = self.record_each([one])
        except Exception as error:
            return _reply(one.report, error)
        return reply

    def _while_stopped(self, outcomes: Sequence[JobExecuted | Exception]) -> list[JobExecuted | Exception]:
        """While writes are stopped nothing is refused: lost events of the ledger might make the report valid.

        The worker asks again and discards nothing until then.
        """
        try:
            reason = self._ledger.stopped()
        except Unavailable as error:
            return [error if isinstance(outcome, Refused) else outcome for outcome in outcomes]
        if reason is None:
            return list(outcomes)
        return [WritesStopped(reason) if isinstance(outcome, Refused) else outcome for outcome in outcomes]

    def _heard(self, report: HeartbeatReport, worker: str) -> ReportReply:
        try:
            return self._renew(report, worker)
        except Exception as error:
            return _reply(report, error)

    def _renew(self, report: HeartbeatReport, worker: str) -> ReportReply:
        arguments = {
            "job_id": report.job_id,
            "attempt": report.attempt,
            "worker": worker,
            "lease_s": self._lease_s,
        }
        with self._database.connection() as connection:
            row = connection.execute(SQL["renew"], arguments).fetchone()
        if row is not None and row[0] is not None:
            return ReportReply(accepted=True, cancel_requested=row[0])
        # No lease, or the queue does not show the job: only the ledger knows whether the attempt is current.
        job = self._ledger.generation(report.job_id).job
        running = require_attempt(job, report.attempt, worker)
        self._keep_leases([(Said(report, worker), True)])
        return ReportReply(accepted=True, cancel_requested=running.cancel_requested)

    def _keep_leases(self, heard: Sequence[tuple[Said, bool]]) -> None:
        """Grant a lease to each report with a running attempt, and drop the leases of the others.

        A failed write costs at most a lease: until the next heartbeat, the lease counts from the start of the job.
        """
        latest = {one.report.job_id: (one, runs) for one, runs in heard}
        if not latest:
            return
        in_order = [latest[job_id] for job_id in sorted(latest)]  # sorted, or two recorders could deadlock
        granted = [one for one, runs in in_order if runs]
        dropped = [one.report for one, runs in in_order if not runs]
        arguments = {
            "job_ids": uuids([one.report.job_id for one in granted]),
            "attempts": int4s([one.report.attempt for one in granted]),
            "workers": texts([one.worker for one in granted]),
            "dropped_ids": uuids([report.job_id for report in dropped]),
            "dropped_attempts": int4s([report.attempt for report in dropped]),
            "lease_s": self._lease_s,
        }
        try:
            with self._database.connection() as connection:
                connection.execute(SQL["keep"], arguments, prepare=True)
        except Exception as error:  # committed reports are answered as accepted even if this fails
            if not isinstance(error, Unavailable):
                log.exception("leases could not be written")
            ids = ", ".join(map(str, latest))
            log.warning("leases were not written, the next heartbeats write them: jobs %s", ids)

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
        if not is_worker_name(worker):
            log.warning("a report of a worker with an impossible name was dropped: %.100r", worker)
            return ReportReply(accepted=False, code=INVALID_REPORT, detail="No worker can be called so.")
        try:
            report = ANY_REPORT.validate_json(data)
        except ValidationError as error:
            why = error.errors(include_input=False)[0]["msg"]
            log.warning("a report of worker %s was not understood: %s", worker, why)
            detail = f"The report does not fit this version: {why}."
            return ReportReply(accepted=False, code=INVALID_REPORT, detail=detail)
        with about_job(report.job_id, report.attempt, worker=worker):
            reply = await self._recorded(report, worker, headers)
        REPORTS_ANSWERED.labels(report.kind, reply.code or "accepted").inc()
        return reply

    async def _recorded(self, report: AnyReport, worker: str, headers: Mapping[str, str] | None) -> ReportReply:
        if isinstance(report, HeartbeatReport):
            return await asyncio.to_thread(self._heard, report, worker)
        with telemetry.job_span(f"record {report.kind}", report.job_id, headers=headers):
            written = asyncio.get_running_loop().create_future()
            self._waiting.append((Said(report, worker), written))
            if not self._is_writing:
                self._is_writing = True
                self._writing = asyncio.create_task(self._write_waiting())
            reply: ReportReply = await written
            return reply

    async def _write_waiting(self) -> None:
        """Write all reports that arrived during the last write together."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    replies = await asyncio.to_thread(self.record_each, [one for one, _ in waiting])
                except Exception:  # the failure of one must not affect the others
                    replies = [await asyncio.to_thread(self._record_alone, one) for one, _ in waiting]
                for (_, written), reply in zip(waiting, replies, strict=True):
                    if not written.done():
                        written.set_result(reply)
        finally:
            self._is_writing = False


def _runs(executed: JobExecuted, attempt: int) -> bool:
    job = executed.state.job
    return isinstance(job, Running) and job.tries.attempt == attempt


def _reply(report: AnyReport, outcome: JobExecuted | Exception) -> ReportReply:
    match outcome:
        case Executed(state=generation):
            job = generation.job
            return ReportReply(accepted=True, cancel_requested=isinstance(job, Running) and job.cancel_requested)
        case Refused():
            return ReportReply(accepted=False, code=outcome.code, detail=str(outcome))
        case Unavailable():
            return ReportReply(accepted=False, code=UNAVAILABLE, detail=str(outcome))
        case _:
            log.error("report %s of job %s failed", report.kind, report.job_id, exc_info=outcome)
            return ReportReply(accepted=False, code=RECORDER_FAILED, detail="The recorder failed; its log says why.")


def command_of(report: AnyReport, worker: str, *, now: datetime, held: Held = NOTHING_HELD) -> JobCommand:
    """The command for a worker's report. `held`: the holds of operators, which may refuse a start."""
    if isinstance(report, StartedReport):
        return StartAttempt(report.attempt, worker, now, held)
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
