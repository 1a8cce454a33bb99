"""Announces this worker and its models every few seconds, and learns whether it may take jobs."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from gpu_worker.workshop import Workshop, library_versions
from services.messaging.wire import Announcement, AnnouncementReply, announce_subject

LOG = logging.getLogger("darkroom.worker")

REPLY_S_MAX: Final = 2.0
"""Seconds to wait for the answer to an announcement. The first answer is awaited before the first order is taken."""

MODELS_MAX: Final = 64
POOLS_MAX: Final = 32
"""Maximum number of pools in an announcement."""


class Announcing:
    """The worker's description of itself, and whether an operator holds it.

    Older services do not answer announcements; without an answer the worker is not held.
    """

    def __init__(self, connection: Client, workshop: Workshop, pools: Sequence[str], every_s: float) -> None:
        self._connection = connection
        self._workshop = workshop
        self._pools = tuple(pools)
        self._every_s = every_s
        self._began = self._idle_since = time.monotonic()
        self._is_busy = self._leaving = False
        self._hold: AnnouncementReply = AnnouncementReply()
        self._due = asyncio.Event()
        self._heard = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether it must not take further jobs."""
        return self._hold.hold is not None

    def begin(self) -> None:
        """A job has started. Sent with the next announcement, so that short jobs cost no message."""
        self._is_busy = True

    def end(self) -> None:
        """The job has ended."""
        self._is_busy, self._idle_since = False, time.monotonic()
        if self.is_held:
            self._say()

    def soon(self) -> None:
        """Announce immediately: something changed."""
        self._due.set()

    async def heard(self, seconds: float) -> None:
        """Return at the next answer, at the latest after `seconds`."""
        self._heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()

    async def run(self) -> None:
        """Announce until `leave`, then announce the end. Never raises: a worker also works without announcements."""
        while not self._leaving:
            self._due.clear()
            await self.announce()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._due.wait()
        await self._ask(leaving=True)

    def leave(self) -> None:
        """End `run`. A flag instead of a cancellation, which a request of Python 3.11 can swallow."""
        self._leaving = True
        self._due.set()

    async def announce(self) -> None:
        """Announce once and apply the answer."""
        reply = await self._ask(leaving=False)
        if reply is None:
            return
        was, self._hold = self._hold, reply
        if (was.hold, was.reason) != (reply.hold, reply.reason):
            self._say()
        self._heard.set()

    def _say(self) -> None:
        if not self.is_held:
            LOG.info("resumed: worker %s takes jobs again", self._workshop.worker)
            return
        why = f" ({self._hold.reason})" if self._hold.reason else ""
        what = self._hold.hold if not self._is_busy else f"{self._hold.hold}, the job in hand goes on"
        LOG.info("%s%s: worker %s takes no further job until it is resumed", what, why, self._workshop.worker)

    async def _ask(self, *, leaving: bool) -> AnnouncementReply | None:
        if not self._connection.is_connected:
            return None
        content = self._said(leaving=leaving).model_dump_json().encode()
        try:
            message = await self._connection.request(
                announce_subject(self._workshop.worker), content, timeout=REPLY_S_MAX
            )
            return AnnouncementReply.model_validate_json(message.data)
        except (nats.errors.Error, TimeoutError, ValidationError) as error:
            LOG.debug("nobody answered the announcement: %s", error)
            return None

    def _said(self, *, leaving: bool) -> Announcement:
        now = time.monotonic()
        return Announcement(
            pools=self._pools[:POOLS_MAX],
            models=tuple(self._workshop.models())[:MODELS_MAX],
            device=self._workshop.device,
            version=library_versions()["darkroom"],
            up_s=now - self._began,
            idle_s=None if self._is_busy else now - self._idle_since,
            leaving=leaving,
        )
