"""Reports to the recorder, by request and reply: sent again until the ledger has them or refuses them."""

import asyncio
import logging

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from gpu_worker.outage import Outage
from services import telemetry
from services.wire import INVALID_REPORT, RECORDER_FAILED, UNAVAILABLE, AnyReport, ReportReply, report_subject

LOG = logging.getLogger("darkroom.worker")

REPLY_S_MAX = 5.0
"""How long one try waits for the recorder; its commit takes milliseconds."""


FAILURES_MAX = 10
"""Times that one report may make the recorder fail before it is given up: some half a minute."""


class ReportRefused(Exception):
    """The ledger does not take what was reported, whoever reports it: this part of the work failed."""


class Reporter:
    """The way to the ledger. Every report may be sent twice: the ledger takes the second one for the first."""

    def __init__(self, connection: Client, worker: str) -> None:
        self._connection = connection
        self._subject = report_subject(worker)
        self._outage = Outage(LOG, "The recorder")

    async def settle(self, report: AnyReport) -> ReportReply:
        """Send it until it is accepted or refused, however long the recorder is away.

        A report that makes the recorder fail again and again, or that NATS does not carry, counts as refused.
        Raises `nats.errors.ConnectionClosedError` when the connection is closed for good.
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
        """Send it once. Returns the verdict, or why there is none. Raises as `settle` does."""
        if self._connection.is_closed:
            raise nats.errors.ConnectionClosedError
        if not self._connection.is_connected:
            return "NATS is away"  # nats-py would keep every try and send them all after it is back
        try:
            message = await self._connection.request(
                self._subject, report.model_dump_json().encode(), timeout=timeout_s, headers=telemetry.headers()
            )
            reply = ReportReply.model_validate_json(message.data)
        except nats.errors.ConnectionClosedError:
            raise
        except nats.errors.MaxPayloadError:  # it never will be
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
