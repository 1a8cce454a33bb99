"""Broadcasts the ledger: every event, in order, to the LEDGER stream, whose sequence is the ledger's position.

Each message names the sequence that must come before it, so the broker itself refuses a double or a gap, whoever sends
and however often. A lost NATS store is filled again from position 1.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import orjson
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header

from domain.codec import name_of
from services.broker import Broker, ensure_ledger_stream
from services.database import Unavailable
from services.ledger import Ledger, RawEvent
from services.wire import ledger_subject

log = logging.getLogger(__name__)

BATCH_EVENTS_MAX: Final = 1_000
"""Messages in flight before their acks are awaited."""


class Relay:
    """Several may run: the broker takes each position from one of them only."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker

    async def run(self, stop: asyncio.Event) -> None:
        """Broadcast until stopped; outages of Postgres and NATS are waited out."""
        follower = self._broker.follower()
        trouble = ""
        while not stop.is_set():
            try:
                if self._broker.connected:
                    while await self.step():
                        pass
                trouble = ""
            except (Unavailable, NatsError, OSError, TimeoutError) as error:
                if str(error) != trouble:
                    log.warning("the relay waits: %s", error)
                trouble = str(error)
            await follower.woken()

    async def step(self) -> int:
        """Broadcast the next events; how many. Where the stream ends is asked each time: it may have been lost."""
        jetstream = self._broker.jetstream
        position = await ensure_ledger_stream(jetstream)
        batch = await asyncio.to_thread(self._ledger.read_raw, position, BATCH_EVENTS_MAX)
        if batch:
            await _publish(jetstream, position, batch)
        return len(batch)


async def _publish(jetstream: JetStreamContext, position: int, batch: Sequence[RawEvent]) -> None:
    acks = []
    for event in batch:
        headers = {str(Header.EXPECTED_LAST_SEQUENCE.value): str(position)}
        acks.append(await jetstream.publish_async(_subject(event), _payload(event), headers=headers))
        position = event.position
    await asyncio.gather(*acks)


def _subject(event: RawEvent) -> str:
    return ledger_subject(str(orjson.loads(event.state)["meta"]["owner"]), name_of(event.topic))


def _payload(event: RawEvent) -> bytes:
    return orjson.dumps(
        {
            "position": event.position,
            "stream": event.stream_id,
            "version": event.version,
            "topic": event.topic,
            "state": orjson.Fragment(event.state),
        }
    )
