"""Broadcasts the ledger: every event, in order, to the LEDGER stream, whose sequence is the ledger's position.

Each message names the sequence that must come before it, so the broker itself refuses a double or a gap, whoever sends
and however often. A lost NATS store is filled again from position 1.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import orjson
from nats.js.api import Header
from nats.js.errors import APIError

from domain.codec import name_of
from services.broker import Broker, ensure_ledger_stream
from services.crash_points import Point, reached
from services.following import OutOfStep, follow
from services.ledger import Ledger, RawEvent
from services.metrics import RELAY_POSITION
from services.wire import LEDGER_STREAM, ledger_subject

log = logging.getLogger(__name__)

BATCH_EVENTS_MAX: Final = 1_000
"""Messages sent before an ack is awaited."""

ACK_S_MAX: Final = 10.0
"""An ack that is not there by now was lost with its connection; the stream is asked where it ends, and it goes on."""

WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's error code for a message that is not the next one: another relay was faster, or one was lost."""

NOBODY: Final = "_"
"""Stands for the owner in the subject of an event that cannot be read."""


class Relay:
    """Several may run: the broker takes each position from one of them only."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker

    async def run(self, stop: asyncio.Event) -> None:
        """Broadcast until stopped; outages of Postgres and NATS are waited out."""
        await follow("relay", self.step, self._broker, stop, full=BATCH_EVENTS_MAX)

    async def step(self) -> int:
        """Broadcast the next events; how many. Where the stream ends is asked each time: it may have been lost."""
        position = await ensure_ledger_stream(self._broker.jetstream, self._broker.replicas)
        RELAY_POSITION.set(position)
        batch = await asyncio.to_thread(self._ledger.read_raw, position, BATCH_EVENTS_MAX)
        if not batch:
            await self._refuse_a_longer_stream(position)
            return 0
        try:
            await self._publish(position, batch)
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            log.debug("some of %d events after %d were not taken; they are looked at again", len(batch), position)
            return 0
        reached(Point.RELAY_AFTER_PUBLISH)
        return len(batch)

    async def _refuse_a_longer_stream(self, position: int) -> None:
        head = await asyncio.to_thread(self._ledger.head)
        if position > head:
            raise OutOfStep(
                f"the stream {LEDGER_STREAM} holds {position} events and the ledger {head}: they belong to different "
                "ledgers, or Postgres was restored from an older backup; delete the stream to have it filled again"
            )

    async def _publish(self, position: int, batch: Sequence[RawEvent]) -> None:
        """Send a batch. The last ack speaks for all: each message is refused unless the one before it landed."""
        for event in batch:
            headers = {str(Header.EXPECTED_LAST_SEQUENCE.value): str(position)}
            subject, payload = _message(event)
            if event is batch[-1]:
                await self._broker.jetstream.publish(subject, payload, timeout=ACK_S_MAX, headers=headers)
            else:
                await self._broker.client.publish(subject, payload, headers=headers)
                reached(Point.RELAY_BETWEEN_EVENTS)
            position = event.position


def _message(event: RawEvent) -> tuple[str, bytes]:
    """Subject and payload. A damaged event takes its place without owner and state, and holds up none after it."""
    state: orjson.Fragment | None = orjson.Fragment(event.state)
    try:
        owner = str(orjson.loads(event.state)["meta"]["owner"])
    except (KeyError, TypeError, ValueError):
        owner, state = NOBODY, None
    payload = {
        "position": event.position,
        "stream": event.stream_id,
        "version": event.version,
        "topic": event.topic,
        "state": state,
    }
    return ledger_subject(owner, name_of(event.topic)), orjson.dumps(payload)
