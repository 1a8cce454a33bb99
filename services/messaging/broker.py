"""The NATS connection of a process: it connects when the server is up and reconnects by itself."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from services.crash_points import Point, reached
from services.messaging.wire import LEASE_S, LEDGER_STREAM, WAKE, WORK_STREAM, nats_servers, work_consumer, work_filter

log = logging.getLogger(__name__)

UNREADABLE: Final = "stream.msg.get.ledger"
"""Part of nats-server's error, in lower case, when a user may not read LEDGER."""

RECONNECT_PAUSE_S = 0.25
CONNECT_S_MAX = 2

REFUSED = "authorization violation"
"""nats-server's error for a wrong password; nats-py has no class for it."""

POLL_S = 0.2
"""Seconds that a follower of the ledger sleeps without a wake-up; the delay that a lost ping causes."""

WAKE_S_MIN: Final = 0.02
"""Minimum seconds between two wake-ups of one process, because each wakes every other process. The first is sent
immediately, a last one covers later commits, and followers do not look more often anyway."""


class Follower:
    """Waits for the ledger to grow."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The ledger grew; also counts if no caller waits right now. Only from the event loop's thread."""
        self._woken.set()

    async def woken(self) -> None:
        """Return at the next wake-up, at the latest after `POLL_S`; immediately if one came since the last call."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):  # wait_for of Python 3.11 can swallow a cancellation
                await self._woken.wait()
        self._woken.clear()


class _Client(Client):
    """Drops a message that cannot be parsed, such as one with a subject that is not UTF-8.

    nats-py would stop reading at such a message until its pings time out, and any client may send one.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except ValueError as error:  # includes UnicodeDecodeError
            log.warning("a message of NATS cannot be read and is dropped: %s", error)


class Broker:
    """Core NATS and JetStream of one process. `open()` returns immediately; `connected` is the state.

    `url` is one server, or several servers of a cluster separated by commas; `replicas` is the number of servers on
    which JetStream keeps its streams.
    """

    def __init__(self, url: str, name: str, replicas: int = 1) -> None:
        self._url = url
        self._name = name
        self.replicas: Final = replicas
        self._client = _Client()
        self._opening: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jetstream = self._client.jetstream(timeout=CONNECT_S_MAX)
        self._was_connected = False
        self._closing = False
        self._refused = False
        self._subscriptions: list[tuple[str, str, Callable[[Msg], Awaitable[None]]]] = []
        self._followers: list[Follower] = []
        self._is_telling = False
        self._untold: int | None = None
        self.may_read_ledger = True
        """False once NATS has refused this user: see docs/least-rights.md."""

    @property
    def connected(self) -> bool:
        """Whether NATS can be used now."""
        return self._client.is_connected

    @property
    def client(self) -> Client:
        """The nats-py client."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream with a timeout for each answer."""
        return self._jetstream

    async def open(self) -> None:
        """Start connecting, without a time limit; subscriptions made earlier are active once connected."""
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.create_task(self._connect())

    async def close(self) -> None:
        """Close the connection. Nothing important is buffered here: the ledger has it."""
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if not self._client.is_closed:
            await self._client.close()

    async def subscribe(self, subject: str, handler: Callable[[Msg], Awaitable[None]], queue: str = "") -> None:
        """Subscribe to a subject, across reconnects."""
        if not self._was_connected:
            self._subscriptions.append((subject, queue, handler))
        else:  # the client remembers it across reconnects
            await self._client.subscribe(subject, queue=queue, cb=handler)

    async def hear_wakes(self) -> None:
        """Subscribe to the wake-ups of every process."""
        await self.subscribe(WAKE, self._on_wake)

    def wake(self, position: int) -> None:
        """Notify all followers that the ledger grew. Thread-safe, lossy, never blocks."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_now, position)

    def follower(self) -> "Follower":
        """A follower of the ledger in this process; each has its own wake-ups, so none takes another's."""
        follower = Follower()
        self._followers.append(follower)
        return follower

    def _wake_now(self, position: int) -> None:
        self._wake_followers()
        self._untold = position
        if not self._is_telling:
            self._is_telling = True
            self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        try:
            while self._untold is not None:
                position, self._untold = self._untold, None
                if self.connected:
                    await self._publish_wake(position)
                await asyncio.sleep(WAKE_S_MIN)
        finally:
            self._is_telling = False

    async def _publish_wake(self, position: int) -> None:
        try:
            await self._client.publish(WAKE, str(position).encode())
        except (NatsError, OSError):
            log.debug("a wake-up was lost; the poll covers it")

    async def _on_wake(self, _: Msg) -> None:
        self._wake_followers()

    def _wake_followers(self) -> None:
        for follower in self._followers:
            follower.wake()

    async def _connect(self) -> None:
        await self._client.connect(
            servers=nats_servers(self._url),
            name=self._name,
            connect_timeout=CONNECT_S_MAX,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_PAUSE_S,  # type: ignore[arg-type]  # nats-py passes it to asyncio.sleep
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
        )
        self._was_connected = True
        self._refused = False
        for subject, queue, handler in self._subscriptions:
            await self._client.subscribe(subject, queue=queue, cb=handler)

    async def _on_error(self, error: Exception) -> None:
        if REFUSED in str(error).lower() and not self._refused:  # once: it is tried four times a second
            self._refused = True
            log.warning("NATS refuses the user or the password of DARKROOM_NATS_URL; it is tried until it does not")
        if UNREADABLE in str(error).lower() and self.may_read_ledger:
            self.may_read_ledger = False
            log.warning(
                "NATS does not let this user read the stream %s, so its content is not compared with the ledger: allow "
                "what docs/least-rights.md names",
                LEDGER_STREAM,
            )
        log.debug("NATS: %s", error)

    async def _on_disconnect(self) -> None:
        if not self._closing:
            log.warning("NATS is gone; it is tried again until it is back")

    async def _on_reconnect(self) -> None:
        log.info("NATS is back")


async def ensure_ledger_stream(jetstream: JetStreamContext, replicas: int = 1) -> StreamInfo:
    """Create or update the broadcast stream; returns the broker's information about it."""
    wanted = StreamConfig(
        name=LEDGER_STREAM,
        subjects=["ledger.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        allow_direct=True,
        description="Every event of the ledger; sequence = position.",
    )
    return await _ensure_stream(jetstream, wanted)


async def ensure_work_stream(
    jetstream: JetStreamContext, pools: list[str], replicas: int = 1, lease_s: float = LEASE_S
) -> None:
    """Create or update the work queue and a consumer for each pool.

    An order is redelivered to another worker if its worker is silent for `lease_s`.
    """
    wanted = StreamConfig(
        name=WORK_STREAM,
        subjects=["work.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        num_replicas=replicas,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        description="Attempts handed to workers; acked after the ledger has their end.",
    )
    await _ensure_stream(jetstream, wanted)
    reached(Point.DISPATCHER_AFTER_STREAM)
    for pool in pools:
        await _ensure_consumer(jetstream, pool, lease_s)


async def _ensure_stream(jetstream: JetStreamContext, wanted: StreamConfig) -> StreamInfo:
    """Create the stream if it is missing; update one with another number of replicas or of an older version."""
    name = str(wanted.name)
    try:
        info = await jetstream.stream_info(name)
    except NotFoundError:
        return await jetstream.add_stream(wanted)
    has = (info.config.num_replicas, bool(info.config.allow_direct))
    if has == (wanted.num_replicas, bool(wanted.allow_direct)):
        return info
    changed = info.config.evolve(num_replicas=wanted.num_replicas, allow_direct=wanted.allow_direct)
    return await jetstream.update_stream(changed)


async def _ensure_consumer(jetstream: JetStreamContext, pool: str, lease_s: float) -> None:
    """Create the consumer if it is missing; update one with another lease."""
    try:
        wanted = (await jetstream.consumer_info(WORK_STREAM, work_consumer(pool))).config
        if wanted.ack_wait == lease_s:
            return
    except NotFoundError:
        wanted = ConsumerConfig(
            durable_name=work_consumer(pool),
            filter_subject=work_filter(pool),
            ack_policy=AckPolicy.EXPLICIT,
            max_deliver=-1,
            max_ack_pending=10_000,
        )
    await jetstream.add_consumer(WORK_STREAM, wanted.evolve(ack_wait=lease_s))
