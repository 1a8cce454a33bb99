"""The orders that workers can already take: they come before all waiting jobs, and count for their owners."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Final
from uuid import UUID

from nats.errors import Error as NatsError

from services.messaging.broker import Broker
from services.messaging.wire import WORK_STREAM, work_filter
from services.queue.dispatcher import attempt_in

KNOWN_S: Final = 0.5
"""Seconds for which an answer of the broker is cached for all callers."""

ANSWER_S_MAX: Final = 1.0
"""Maximum seconds to wait for the broker; without an answer, places are computed as if no order were published."""

Found = Mapping[str, Sequence[tuple[UUID, int]]]


class HandedOutBoard:
    """Asks the broker at most twice a second, for all callers. Thread-safe; the question runs in the event loop."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: Found = {}
        self._until = 0.0

    def begin(self) -> None:
        """Start on the broker's loop."""
        self._loop = asyncio.get_running_loop()

    def now(self) -> Found:
        """The attempts that WORK holds, by pool. Blocks; not for the event loop."""
        if self._loop is None or time.monotonic() < self._until or not self._broker.connected:
            return self._known
        self._until = time.monotonic() + KNOWN_S
        looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        try:
            self._known = looking.result(ANSWER_S_MAX)
        except (NotInTime, NatsError, OSError):
            looking.cancel()
            self._known = {}
        return self._known

    async def _look(self) -> Found:
        info = await self._broker.jetstream.stream_info(WORK_STREAM, subjects_filter=work_filter("*"))
        found: dict[str, list[tuple[UUID, int]]] = defaultdict(list)
        for subject in info.state.subjects or {}:
            found[subject.split(".")[1]].append(attempt_in(subject))
        return found
