"""Reads the ledger once for all event streams of a process, fans events out by owner, and never waits for a client.

Every subscription has a bounded queue. One that overflows is marked as lost and gets nothing more until it is restarted
from a position: its stream either catches up from the history view, or closes the connection.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from api.http.responses import encoded
from api.jobs.documents import history_item_of_event
from domain.envelope import Recorded, Unreadable
from domain.events import JobAborted, JobCanceled, JobFailed, JobPartiallySucceeded, JobSucceeded
from services.database import Unavailable
from services.ledger import Ledger
from services.messaging.broker import Broker, Follower
from services.messaging.wire import Progress
from services.observability.metrics import EVENT_STREAMS
from services.observability.parking import park
from services.restore.epochs import Epochs

log = logging.getLogger(__name__)

PAGE_EVENTS: Final = 500

UNHEARD_S: Final = 0.1
"""Seconds between checks of the ledger's head while there are no clients: a new client starts from a position at most
this old."""

STEP_S_MIN: Final = 0.02
"""Minimum seconds between the starts of two reads. Waking a hundred clients costs as much for one event as for ten, so
on a busy ledger one read covers several commits; a single event is not delayed."""

QUEUE_FRAMES_MAX: Final = 2_000
"""Maximum frames queued for one client: ten seconds at 200 events/s."""

QUEUE_BYTES_MAX: Final = 2 * 1024 * 1024
"""Maximum bytes queued for one client: a frame usually has one kilobyte, a hundred with the longest prompts. All
clients of an owner share their frames."""

PAGES_AT_ONCE_MAX: Final = 4
"""Maximum number of pages of missed events read at a time: more would take the threads and connections that live events
and commands need, when hundreds of clients reconnect at once."""

START_S_MAX: Final = 5.0
"""Maximum seconds that a new client waits until the feed knows the ledger's head."""

CLIENTS_MAX: Final = 1_000
"""Maximum number of event streams of a process."""

CLIENTS_OF_ONE_MAX: Final = 250
"""Maximum number of event streams of one owner, so that one owner cannot take every place."""

ENDINGS: Final = (JobSucceeded, JobPartiallySucceeded, JobFailed, JobCanceled, JobAborted)


class TooSlow(Exception):
    """The client did not read its events; it resumes from the last id it saw."""


class StreamsEnded(Exception):
    """The server is stopping."""


def frame_of(event: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """A server-sent event. JSON has no raw line breaks, so the data is one line."""
    head = b"" if event_id is None else b"id: %s\n" % event_id
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data)


@dataclass(frozen=True, slots=True)
class Frame:
    """A rendered event, shared by all its recipients. Progress has no position."""

    position: int | None
    content: bytes


@dataclass(slots=True, eq=False)
class Subscription:
    """The queue of one client. `since`: the queue holds every event of the owner after this position.

    `starts_after`: the position after which the client's stream starts, which the ledger had then.
    """

    owner: str
    since: int
    starts_after: int = 0
    lost: bool = False
    ended: bool = False
    _queue: deque[Frame] = field(default_factory=deque)
    _queued_bytes: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, frame: Frame) -> None:
        """Queue a frame, or mark the subscription as lost. Never waits."""
        if self.lost:
            return
        if len(self._queue) >= QUEUE_FRAMES_MAX or self._queued_bytes + len(frame.content) > QUEUE_BYTES_MAX:
            if frame.position is None:
                return  # the next progress message replaces it
            self._empty()
            self.lost = True
        else:
            self._queue.append(frame)
            self._queued_bytes += len(frame.content)
        self._changed.set()

    @property
    def queued(self) -> tuple[int, int]:
        """The number of queued frames, and their bytes."""
        return len(self._queue), self._queued_bytes

    def restart(self, since: int) -> None:
        """Drop the queue; from now on it holds everything after `since`."""
        self.since = since
        self.lost = False
        self._empty()

    def end(self) -> None:
        """End the client's stream."""
        self.ended = True
        self._changed.set()

    async def take(self, wait_s: float, bytes_max: int) -> list[Frame]:
        """The next frames, at least one and at most `bytes_max` bytes; none after `wait_s` seconds.

        The remaining frames stay queued, and count towards the limits. Raises `TooSlow` and `StreamsEnded`.
        """
        if not self._queue and not self.lost and not self.ended:
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_s):  # not `wait_for`, which may swallow a cancellation in Python 3.11
                    await self._changed.wait()
            except TimeoutError:
                return []
        if self.ended:
            raise StreamsEnded
        if self.lost:
            raise TooSlow
        frames = [self._queue.popleft()]
        total = len(frames[0].content)
        while self._queue and total + len(self._queue[0].content) <= bytes_max:
            frames.append(self._queue.popleft())
            total += len(frames[-1].content)
        self._queued_bytes -= total
        return frames

    def _empty(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0


class Feed:
    """Follows the ledger while it has clients. Start `run` as a task; use everything else only in its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._subscriptions: set[Subscription] = set()
        self._waiters: dict[UUID, set[asyncio.Future[int]]] = {}
        self._position = 0
        self._last: tuple[int, UUID, int, UUID | None] | None = None
        self.epochs = Epochs(())
        """The ledger's epochs, for the ids of positions."""
        self._started = asyncio.Event()
        self._ended = False
        self.catching_up = asyncio.Semaphore(PAGES_AT_ONCE_MAX)

    async def run(self, broker: Broker) -> None:
        """Read and fan out until `end` or cancellation. During an outage of Postgres it waits; the position stays."""
        follower: Follower = broker.follower()
        while not self._ended:
            began = time.monotonic()
            try:
                listened_to = self._listened_to
                if await self._step() == PAGE_EVENTS:
                    continue
                pause_s = STEP_S_MIN if listened_to else UNHEARD_S
                await asyncio.sleep(began + pause_s - time.monotonic())
            except Unavailable as error:
                log.warning("event streams wait: %s", error)
            except Exception:  # otherwise every stream would go silent; the position stays, so nothing is lost
                log.exception("event streams wait: the ledger could not be read on")
            await follower.woken()

    async def subscribe(self, owner: str) -> Subscription:
        """Subscribe to all later events of the owner's jobs and assets. Raises `Unavailable`."""
        if len(self._subscriptions) >= CLIENTS_MAX:
            raise Unavailable(f"{CLIENTS_MAX} event streams are open already; close one, or try again later.")
        if sum(one.owner == owner for one in self._subscriptions) >= CLIENTS_OF_ONE_MAX:
            raise Unavailable(f"You have {CLIENTS_OF_ONE_MAX} event streams open; close one, or try again later.")
        await self._know_position()
        subscription = Subscription(owner, self._position, ended=self._ended)
        self._subscriptions.add(subscription)
        EVENT_STREAMS.inc()
        return subscription

    def restart(self, subscription: Subscription) -> int:
        """Restart the subscription; returns the position after which its queue holds everything."""
        subscription.restart(self._position)
        return subscription.since

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove the subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.discard(subscription)
            EVENT_STREAMS.dec()

    async def watch_end(self, job_id: UUID) -> "asyncio.Future[int]":
        """A future with the position of the job's end. Return it with `unwatch`. Raises `Unavailable`."""
        await self._know_position()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(future)
        return future

    def unwatch(self, job_id: UUID, future: "asyncio.Future[int]") -> None:
        """The future is no longer needed."""
        waiters = self._waiters.get(job_id, set())
        waiters.discard(future)
        if not waiters:
            self._waiters.pop(job_id, None)
        future.cancel()

    def progress(self, owner: str, progress: Progress) -> None:
        """Send a progress message to the owner's clients."""
        listeners = [one for one in self._subscriptions if one.owner == owner]
        if listeners:
            frame = Frame(None, frame_of("progress", encoded(progress.model_dump())))
            for listener in listeners:
                listener.put(frame)

    def end(self) -> None:
        """End every stream and accept no more: the server is stopping.

        Must come before uvicorn waits for its clients.
        """
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.cancel()

    async def _know_position(self) -> None:
        try:
            async with asyncio.timeout(START_S_MAX):
                await self._started.wait()
        except TimeoutError:
            raise Unavailable("The ledger cannot be read now.") from None

    async def _step(self) -> int:
        """Read the next events; returns their number."""
        if not self._listened_to:
            head = await asyncio.to_thread(self._ledger.head)
            if not self._listened_to:  # otherwise a new client relies on the earlier position
                self._position, self._last = head, None
                self._started.set()
            return 0
        seen = max((one.starts_after for one in self._subscriptions if not one.ended), default=0)  # before reading
        known = min(1, self._position)  # read the last event again, to check that it is still there
        read = await asyncio.to_thread(self._ledger.read, self._position - known, PAGE_EVENTS + known)
        last = _identity_of(read[0]) if known and read else None
        if known and (last is None or self._last not in {None, last}):
            await self._begin_again()
            return 0
        self._last = last
        events = read[known:]
        for event in events:
            if event.name == "ledger.restored":  # later ids belong to another epoch
                self.epochs = await asyncio.to_thread(self._ledger.epochs)
        self._fan_out(events)
        if events:
            self._position, self._last = events[-1].position, _identity_of(events[-1])
        if len(events) < PAGE_EVENTS and self._position < seen:
            await self._begin_again()
            return 0
        return len(events)

    async def _begin_again(self) -> None:
        """The ledger was replaced: end every stream, so that clients reconnect with their last id and are informed."""
        log.warning("event streams begin again: the ledger was restored from an older backup")
        self.epochs = await asyncio.to_thread(self._ledger.epochs)
        self._position, self._last = await asyncio.to_thread(self._ledger.head), None
        for subscription in self._subscriptions:
            subscription.end()

    @property
    def _listened_to(self) -> bool:
        return bool(self._subscriptions or self._waiters)

    def _fan_out(self, events: Sequence[Recorded | Unreadable]) -> None:
        by_owner: dict[str, list[Subscription]] = {}
        for subscription in self._subscriptions:
            by_owner.setdefault(subscription.owner, []).append(subscription)
        for event in events:
            if isinstance(event, Unreadable):  # the history view parks it; both show it when they can read it
                log.error("event %d cannot be shown: %s", event.position, event.reason)
                continue
            listeners = by_owner.get(event.envelope.owner)
            frame = _frame_of(event, self.epochs) if listeners else None
            if listeners and frame is not None:
                for listener in listeners:
                    listener.put(frame)
            if isinstance(event.event, ENDINGS):
                for waiter in self._waiters.get(event.stream_id, ()):
                    if not waiter.done():
                        waiter.set_result(event.position)


def _identity_of(event: Recorded | Unreadable) -> tuple[int, UUID, int, UUID | None]:
    """Identifies an event, also among events at the same position of another history."""
    command_id = event.envelope.command_id if isinstance(event, Recorded) else None
    return event.position, event.stream_id, event.version, command_id


def _frame_of(event: Recorded, epochs: Epochs) -> Frame | None:
    """None for an event that cannot be rendered for any reason: otherwise all streams would wait for it forever."""
    try:
        data = encoded(history_item_of_event(event))
        return Frame(event.position, frame_of(event.name, data, epochs.label(event.position)))
    except Exception as error:
        park("feed", event.position, f"event {event.position} cannot be shown: {type(error).__name__}: {error}")
        return None
