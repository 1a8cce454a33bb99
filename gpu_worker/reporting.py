"""Reports to the recorder, by request and reply, repeated until the ledger accepts or refuses them."""

import asyncio
import logging

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from gpu_worker.backoff import Outage
from services.messaging.wire import INVALID_REPORT, RECORDER_FAILED, UNAVAILABLE, AnyReport, ReportReply, report_subject
from services.observability import telemetry

LOG = logging.getLogger("darkroom.worker")

REPLY_S_MAX = 5.0
"""Seconds that one try waits for the recorder; a commit takes milliseconds."""


FAILURES_MAX = 10
"""Number of recorder failures after which a report is given up: about half a minute."""


class ReportRefused(Exception):
    """The ledger will never accept the report, from any worker: this part of the work failed."""


class Reporter:
    """Sends reports. A report may be sent twice: the ledger recognises the repeat."""

    def __init__(self, connection: Client, worker: str) -> None:
        self._connection = connection
        self._subject = report_subject(worker)
        self._outage = Outage(LOG, "The recorder")

    async def settle(self, report: AnyReport) -> ReportReply:
        """Send a report until it is accepted or refused, however long the recorder is down.

        A report that makes the recorder fail repeatedly, or that is too large for NATS, counts as refused. Raises
        `nats.errors.ConnectionClosedError` when the connection is closed permanently.
        """
        with telemetry.job_span(f"report {report.kind}", report.job_id):
            failures = 0
            while True:
                reply = await self.ask(report)
                if isinstance(reply, ReportReply):
                    failures += reply.code == RECORDER_FAILED
                    if reply.code != RECORDER_FAILED or failures == FAILURES_MAX:
                        self._outage.over()
                        return reply
                why = (reply.detail or RECORDER_FAILED) if isinstance(reply, ReportReply) else reply
                await asyncio.sleep(self._outage.missed(why))

    async def ask(self, report: AnyReport, timeout_s: float = REPLY_S_MAX) -> ReportReply | str:
        """Send a report once. Returns the reply, or why there is none. Raises the same as `settle`."""
        if self._connection.is_closed:
            raise nats.errors.ConnectionClosedError
        if not self._connection.is_connected:
            return "NATS is away"  # nats-py would buffer every try and send them all later
        try:
            message = await self._connection.request(
                self._subject, report.model_dump_json().encode(), timeout=timeout_s, headers=telemetry.headers()
            )
            reply = ReportReply.model_validate_json(message.data)
        except nats.errors.ConnectionClosedError:
            raise
        except nats.errors.MaxPayloadError:  # it will always be too large
            return ReportReply(accepted=False, code=INVALID_REPORT, detail="The report is larger than NATS carries.")
        except nats.errors.NoRespondersError:
            return "no recorder is running"
        except nats.errors.TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except (nats.errors.Error, ValidationError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if not reply.accepted and reply.code == UNAVAILABLE:
            return reply.detail or "the ledger is away"
        return reply
