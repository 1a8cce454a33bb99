"""What workers can take already: it goes first whatever comes, and its owners are charged for it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Final
from uuid import UUID

from nats.errors import Error as NatsError

from services.broker import Broker
from services.dispatcher import attempt_in
from services.wire import WORK_STREAM, work_filter

KNOWN_S: Final = 0.5
"""So long an answer of the broker is good for everybody who asks."""

ANSWER_S_MAX: Final = 1.0
"""Without an answer in time, places are told as if nothing were handed out."""

Found = Mapping[str, Sequence[tuple[UUID, int]]]


class HandedOutBoard:
    """Asks the broker at most twice a second, whoever asks. Any thread may; the answer comes over the event loop."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: Found = {}
        self._until = 0.0

    def begin(self) -> None:
        """From now on it can be asked; on the loop of the broker."""
        self._loop = asyncio.get_running_loop()

    def now(self) -> Found:
        """By pool, the attempts that WORK holds. Blocks; not on the event loop."""
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
