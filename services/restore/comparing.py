"""Checks that LEDGER and the ledger share one history: compares the last message with the event at its position.

A ledger that lost events assigns their positions again. So LEDGER may be longer, or hold other events at the same
positions; both are detected here, before anything is published, and when a process starts.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg, StreamInfo
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from services.database import Unavailable, WritesStopped
from services.ledger import Ledger, RawEvent
from services.messaging.broker import Broker
from services.messaging.follower import OutOfStep
from services.messaging.wire import LEDGER_STREAM

log = logging.getLogger(__name__)

EPOCH: Final = "darkroom-epoch"
"""Key of the stream's metadata with the epoch of the ledger that filled it."""

BACK_MAX: Final = 100
"""Maximum number of missing or damaged messages at the end of LEDGER; with more nothing can be compared."""

LOOK_S: Final = 0.5
"""Seconds between attempts to compare when a process starts."""

COMMAND_S_MAX: Final = 10.0
"""Maximum seconds that a command that is about to write waits for NATS."""

REMEDY: Final = "Writes are stopped; run `darkroom restored`."


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """The fields that identify an event. A flipped bit elsewhere in it is damage, not another history."""

    position: int
    stream: str
    version: int
    topic: str
    command_id: str | None


def identity_of_message(message: RawStreamMsg) -> EventIdentity | None:
    """The identity of a message of LEDGER; None if it is damaged."""
    try:
        told = orjson.loads(message.data or b"")
        state = told["state"]
        command_id = None if state is None else str(state["meta"]["command_id"])
        return EventIdentity(
            int(told["position"]), str(told["stream"]), int(told["version"]), told["topic"], command_id
        )
    except (KeyError, TypeError, ValueError):
        return None


def identity_of_event(event: RawEvent) -> EventIdentity:
    """The identity of an event of the ledger."""
    try:
        command_id: str | None = str(orjson.loads(event.state)["meta"]["command_id"])
    except (KeyError, TypeError, ValueError):
        command_id = None
    return EventIdentity(event.position, str(event.stream_id), event.version, event.topic, command_id)


def is_same(ours: EventIdentity, theirs: EventIdentity) -> bool:
    """Whether both are the same event. An event without a readable state is identified by its place in its stream."""
    if None in {ours.command_id, theirs.command_id}:
        return (ours.position, ours.stream, ours.version, ours.topic) == (
            theirs.position,
            theirs.stream,
            theirs.version,
            theirs.topic,
        )
    return ours == theirs


async def last_readable(broker: Broker, last: int) -> EventIdentity | None:
    """The last message of LEDGER at or before `last` that can be identified; None if there is none nearby.

    Also None for a NATS user without permission to read LEDGER: then only its length is compared.
    """
    for sequence in range(last, max(last - BACK_MAX, 0), -1):
        if not broker.may_read_ledger:
            return None
        found = await identity_at(broker.jetstream, sequence)
        if found is not None:
            return found
    return None


async def identity_at(jetstream: JetStreamContext, sequence: int) -> EventIdentity | None:
    """The message of LEDGER at a sequence; None if it is missing or damaged."""
    try:
        return identity_of_message(await jetstream.get_msg(LEDGER_STREAM, sequence))
    except NotFoundError:
        return None


class Incarnation:
    """The relay's view of the ledger: what it publishes must continue what LEDGER holds."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._known: EventIdentity | None = None
        self._made: str | None = None
        self._stamped: str | None = None

    async def following(self, info: StreamInfo, limit: int) -> Sequence[RawEvent]:
        """The events after those that the stream holds.

        Raises `OutOfStep` if the histories differ, after writes were stopped. Normally this costs no extra request: the
        event before the batch is read with it.
        """
        last = info.state.last_seq
        known = await self._last_of(info)
        start = last if known is None else known.position - 1
        batch = await asyncio.to_thread(self._ledger.read_raw, start, limit + last - start)
        if known is not None and not (batch and is_same(identity_of_event(batch[0]), known)):
            head = await asyncio.to_thread(self._ledger.head)
            await self._refuse(longer(last, head) if last > head else differs(known.position))
        new = [event for event in batch if event.position > last]
        if not new and last > (head := await self._head(batch, last)):
            await self._refuse(longer(last, head))
        await self._stamp(info)
        return new

    async def _head(self, batch: Sequence[RawEvent], last: int) -> int:
        """The ledger's head if it has nothing after `last`; queried only if the batch does not show it."""
        if batch and batch[-1].position == last:
            return last
        return 0 if last == 0 else await asyncio.to_thread(self._ledger.head)

    def published(self, event: RawEvent) -> None:
        """The stream now ends with this event."""
        self._known = identity_of_event(event)

    def forget(self) -> None:
        """The end of the stream is unknown; it will be read again."""
        self._known = None

    async def _last_of(self, info: StreamInfo) -> EventIdentity | None:
        """The last message of the stream; None if it is empty. Read unless this relay sent it."""
        last, made = info.state.last_seq, str(info.created)
        if made != self._made:
            await self._belong(info)
            self._known, self._made = None, made
        if last == 0:
            return None
        if self._known is None or self._known.position != last:
            self._known = await last_readable(self._broker, last)
        return self._known

    async def _belong(self, info: StreamInfo) -> None:
        """Check a stream that this relay has not seen yet.

        If it belongs to a replaced history, delete it and raise `OutOfStep`.
        """
        current = (await asyncio.to_thread(self._ledger.epochs)).current
        if current is None:
            return
        if current.replaced_stream == str(info.created):
            log.warning("the stream %s holds the events of another epoch; it is filled again", LEDGER_STREAM)
            await self._broker.jetstream.delete_stream(LEDGER_STREAM)
            raise OutOfStep(f"the stream {LEDGER_STREAM} is made again")

    async def _stamp(self, info: StreamInfo) -> None:
        """Write the ledger's epoch into the metadata of a stream that matches it."""
        if self._stamped == str(info.created):
            return
        current = (await asyncio.to_thread(self._ledger.epochs)).current
        metadata = info.config.metadata or {}
        if current is not None and metadata.get(EPOCH) != str(current.epoch):
            stamped = info.config.evolve(metadata=metadata | {EPOCH: str(current.epoch)})
            await self._broker.jetstream.update_stream(stamped)
        self._stamped = str(info.created)

    async def refuse_another_event(self, position: int) -> None:
        """Stop writes: the stream holds another event somewhere before its end. Raises `OutOfStep`."""
        await self._refuse(differs(position))

    async def _refuse(self, reason: str) -> None:
        self._known = self._made = self._stamped = None
        await asyncio.to_thread(self._ledger.stop, reason)
        raise OutOfStep(reason)


def longer(last: int, head: int) -> str:
    """The reason for stopping writes if the ledger lost events that LEDGER holds."""
    return (
        f"The stream {LEDGER_STREAM} of NATS holds {last} events and the ledger {head}: Postgres was restored from an "
        f"older backup, or they belong to different ledgers. {REMEDY}"
    )


def differs(position: int) -> str:
    """The reason for stopping writes if a position was assigned twice."""
    return (
        f"The stream {LEDGER_STREAM} of NATS holds another event at position {position} than the ledger: Postgres was "
        f"restored from an older backup, or they belong to different ledgers. {REMEDY}"
    )


async def why_different(ledger: Ledger, broker: Broker) -> str | None:
    """Why LEDGER has another history than the ledger; None if they match, or if there is nothing to compare.

    Raises `Unavailable` and the exceptions of nats-py.
    """
    try:
        info = await broker.jetstream.stream_info(LEDGER_STREAM)
    except NotFoundError:
        return None
    last = info.state.last_seq
    epochs = await asyncio.to_thread(ledger.epochs)
    if epochs.current is not None and epochs.current.replaced_stream == str(info.created):
        return None  # the relay creates it again
    head = await asyncio.to_thread(ledger.head)  # read after the stream: the ledger only grows
    if last > head:
        return longer(last, head)
    known = await last_readable(broker, last)
    if known is None:
        return None
    there = await asyncio.to_thread(ledger.read_raw, known.position - 1, 1)
    return None if there and is_same(identity_of_event(there[0]), known) else differs(known.position)


class Admission:
    """Whether this process may write: only after it has compared the ledger with LEDGER once."""

    def __init__(self) -> None:
        self._is_given = False

    def is_given(self) -> bool:
        """Whether the comparison has succeeded."""
        return self._is_given

    async def seek(self, ledger: Ledger, broker: Broker) -> None:
        """Compare as soon as Postgres and NATS can be reached. If they differ, writes are stopped for all processes."""
        while not self._is_given:
            try:
                if broker.connected:
                    reason = await why_different(ledger, broker)
                    if reason is not None:
                        log.error("%s", reason)
                        await asyncio.to_thread(ledger.stop, reason)
                    self._is_given = True
                    return
            except (Unavailable, NatsError, OSError, TimeoutError) as error:
                log.debug("the ledger is not compared with %s yet: %s", LEDGER_STREAM, error)
            await asyncio.sleep(LOOK_S)


def require_same_history(ledger: Ledger, nats_url: str) -> None:
    """Compare once, for a command that is about to write: its events could not be removed later.

    Raises `WritesStopped` if they differ, after writes were stopped for all processes; raises `Unavailable` with the
    reason `not_compared` if NATS cannot be reached.
    """

    async def compare() -> None:
        broker = Broker(nats_url, "darkroom command")
        await broker.open()
        try:
            async with asyncio.timeout(COMMAND_S_MAX):
                await Admission().seek(ledger, broker)
        finally:
            await broker.close()

    try:
        asyncio.run(compare())
    except TimeoutError:
        raise Unavailable(
            "NATS cannot be reached, so it cannot be checked that Postgres was not restored from an older backup. "
            "Nothing was changed.",
            reason="not_compared",
        ) from None
    reason = ledger.stopped()
    if reason is not None:
        raise WritesStopped(reason)
