"""Broadcasts the ledger: every event, in order, to the LEDGER stream. Its sequence is the ledger's position.

Each message names the sequence that must precede it, so the broker itself refuses duplicates and gaps from any number
of senders. If NATS loses its store, the stream is filled again from position 1; so is a stream with lost or damaged
messages (`services/messaging/ledger_stream.py`). Each sequence then has the same event as before.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from nats.js.api import Header, StreamInfo
from nats.js.errors import APIError

from services.crash_points import Point, reached
from services.ledger import Ledger, RawEvent
from services.messaging.broker import Broker, ensure_ledger_stream
from services.messaging.follower import OutOfStep, follow
from services.messaging.ledger_stream import BroadcastMessage, Comparison, message_bytes_max, message_of, why_incomplete
from services.messaging.wire import LEDGER_STREAM
from services.observability import progress
from services.observability.metrics import LEDGER_STREAM_REFILLS, RELAY_POSITION
from services.observability.parking import park
from services.restore.comparing import Incarnation

log = logging.getLogger(__name__)

BATCH_EVENTS_MAX: Final = 1_000
"""Maximum number of messages sent before waiting for an ack."""

TURN_EVENTS: Final = 25
"""Messages made before others of the event loop have a turn: sending waits for nothing until NATS has enough."""

ACK_S_MAX: Final = 10.0
"""Maximum seconds to wait for an ack. After that it is considered lost; the relay asks for the end of the stream and
continues."""

WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's error code for a message that is not the next one: another relay was faster, or one was lost."""

REFILL_S_MIN: Final = 60.0
"""Minimum seconds between two refills of LEDGER, to not write endlessly to a disk that loses data."""


class Relay:
    """Several may run: the broker accepts each position only once."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._comparison = Comparison(ledger, broker)
        self._incarnation = Incarnation(ledger, broker)
        self._refused_after: int | None = None
        self._filled_again_s = float("-inf")
        self._refills = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Broadcast until stopped; waits out outages of Postgres and NATS."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._comparison.run(stop))
            await follow("relay", self.step, self._broker, stop, full=BATCH_EVENTS_MAX)

    async def step(self) -> int:
        """Broadcast the next events; returns their number.

        Asks for the end of the stream each time: it may have been lost.
        """
        info = await ensure_ledger_stream(self._broker.jetstream, self._broker.replicas)
        position = info.state.last_seq
        RELAY_POSITION.set(position)
        batch = await self._incarnation.following(info, BATCH_EVENTS_MAX)
        if damage := await self._damage_of(info):
            await self._fill_again(damage)
            return 0
        if not batch:
            return 0
        try:
            # After a refusal, send only one: its answer names the cause; that of a batch only says that an earlier one
            # is missing.
            batch = batch[:1] if self._refused_after == position else batch
            await self._publish(info, batch)
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            self._refused_after = position
            self._incarnation.forget()
            log.debug("some of %d events after %d were not taken; they are looked at again", len(batch), position)
            return 0
        self._incarnation.published(batch[-1])
        reached(Point.RELAY_AFTER_PUBLISH)
        return len(batch)

    async def _damage_of(self, info: StreamInfo) -> str | None:
        """The damage to the stream on the disk of NATS; None if none is known.

        Raises `OutOfStep` if a message is intact but differs from the ledger's event: that is not damage, and writes
        are stopped.
        """
        if incomplete := why_incomplete(info.state):
            return incomplete
        difference = self._comparison.difference_in(info)
        if difference is None:
            return None
        if difference.is_of_another_history:
            await self._incarnation.refuse_another_event(difference.position)
        return difference.sentence

    async def _fill_again(self, damage: str) -> None:
        """Delete and refill the whole stream: JetStream cannot replace a single message."""
        if time.monotonic() - self._filled_again_s < REFILL_S_MIN:
            raise OutOfStep(f"the stream {LEDGER_STREAM} is damaged again ({damage}): see to the disk of NATS")
        log.error("the stream %s is damaged and is filled again from position 1: %s", LEDGER_STREAM, damage)
        try:
            await self._broker.jetstream.delete_stream(LEDGER_STREAM)
        except TimeoutError:
            raise OutOfStep(
                f"the stream {LEDGER_STREAM} is damaged ({damage}) and this user of NATS may not delete it: give it "
                f"the rights of docs/least-rights.md, or run `nats stream rm {LEDGER_STREAM}`; it is then filled again"
            ) from None
        self._filled_again_s = time.monotonic()
        LEDGER_STREAM_REFILLS.inc()
        self._refills += 1
        at = datetime.now(UTC).isoformat(timespec="seconds")
        progress.of("relay").facts["ledger_stream_damaged"] = {"times": self._refills, "at": at, "why": damage}
        reached(Point.RELAY_AFTER_DELETE)

    async def _publish(self, info: StreamInfo, batch: Sequence[RawEvent]) -> None:
        """Send a batch. The last ack covers all: each message is refused unless the one before it was stored."""
        position, bytes_max = info.state.last_seq, message_bytes_max(self._broker, info)
        for number, event in enumerate(batch, start=1):
            if number % TURN_EVENTS == 0:
                await asyncio.sleep(0)
            headers = {str(Header.EXPECTED_LAST_SEQUENCE.value): str(position)}
            message = message_of(event, bytes_max)
            if message.without_state:
                _say_what_is_left_out(message, event, bytes_max)
            if event is batch[-1]:
                await self._broker.jetstream.publish(
                    message.subject, message.payload, timeout=ACK_S_MAX, headers=headers
                )
            else:
                await self._broker.client.publish(message.subject, message.payload, headers=headers)
                reached(Point.RELAY_BETWEEN_EVENTS)
            position = event.position


def _say_what_is_left_out(message: BroadcastMessage, event: RawEvent, bytes_max: int) -> None:
    why = (
        f"{event.topic} cannot be read; run `darkroom verify`"
        if message.is_damaged
        else f"{event.topic} has {len(event.state)} bytes, and NATS takes {bytes_max} at once (its max_payload)"
    )
    park("relay", event.position, f"it is broadcast without its content: {why}")
