"""Runs alongside the work on one order: renews the lease and receives requests to stop."""

import asyncio
import logging
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from gpu_worker.reporting import REPLY_S_MAX, Reporter
from services.messaging.wire import UNACCEPTABLE, HeartbeatReport, ReportReply, WorkOrder

LOG = logging.getLogger("darkroom.worker")


class Interrupt(StrEnum):
    """Why the work on an order stops early."""

    CANCELED = "canceled"
    """The owner canceled the job."""
    SUPERSEDED = "superseded"
    """Another attempt has the job: results of this one are discarded."""
    GIVING_BACK = "giving back"
    """The ledger has another decision on something in the order, so the next attempt continues with that."""
    STOPPING = "stopping"
    """This worker is stopping."""


class KeepAlive:
    """Wraps the work on one order, from its receipt to its ack, even while the render thread is busy.

    The broker is notified that the message is in progress from the start; the recorder gets heartbeats after `lease` is
    called.
    """

    def __init__(
        self,
        connection: Client,
        reporter: Reporter,
        message: Msg,
        order: WorkOrder,
        *,
        heartbeat_s: float,
    ) -> None:
        self._connection = connection
        self._reporter = reporter
        self._message = message
        self.job_id: Final[UUID] = order.job_id
        self._heartbeat = HeartbeatReport(job_id=order.job_id, attempt=order.attempt)
        self._heartbeat_s = heartbeat_s
        self._interrupt: Interrupt | None = None
        self._leased = False
        self._beating: asyncio.Task[None] | None = None

    @property
    def interrupt(self) -> Interrupt | None:
        """Why to stop; None: continue. The render thread reads it after every step."""
        return self._interrupt

    def interrupted(self, why: Interrupt) -> None:
        """Stop the work. The first reason is kept, except that a superseded attempt has nothing more to report."""
        if self._interrupt is None or (why is Interrupt.SUPERSEDED and self._interrupt is not why):
            LOG.info("interrupted: %s", why)
            self._interrupt = why

    def lease(self, started: ReportReply) -> None:
        """The ledger accepted the start: begin heartbeats."""
        self._leased = True
        self._heed(started)

    async def __aenter__(self) -> Self:
        self._first_beat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._begin_to_beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._first_beat.cancel()
        if self._beating is not None:  # the order took longer than a heartbeat
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    def _begin_to_beat(self) -> None:
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await self._beat_once()
            await asyncio.sleep(self._heartbeat_s)

    async def _beat_once(self) -> None:
        if self._connection.is_connected:
            with suppress(nats.errors.Error):
                await self._message.in_progress()
        if not self._leased:
            return
        with suppress(nats.errors.ConnectionClosedError):
            reply = await self._reporter.ask(self._heartbeat, min(self._heartbeat_s, REPLY_S_MAX))
            if isinstance(reply, ReportReply):  # a heartbeat without an answer is followed by the next
                self._heed(reply)

    def _heed(self, reply: ReportReply) -> None:
        if reply.code in UNACCEPTABLE:
            return  # the heartbeat itself was at fault; this says nothing about who has the attempt
        if not reply.accepted:
            self.interrupted(Interrupt.SUPERSEDED)
        elif reply.cancel_requested:
            self.interrupted(Interrupt.CANCELED)
