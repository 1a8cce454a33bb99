"""Compare the stream LEDGER with the ledger: the messages it should have, and whether it has them unchanged.

Its length is checked whenever the relay asks for its end. A message that became unreadable on the broker's disk counts
until it is read, so all messages are read and compared in the background, in rounds at a bounded rate.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo, StreamState
from nats.js.errors import NotFoundError

from domain.codec import name_of
from services.database import Unavailable
from services.ledger import Ledger, RawEvent
from services.messaging.broker import Broker, ensure_ledger_stream
from services.messaging.wire import LEDGER_STREAM, ledger_subject
from services.observability.metrics import LEDGER_STREAM_COMPARED

log = logging.getLogger(__name__)

SLICE_EVENTS: Final = 500
"""Number of messages read and compared at a time."""

SHARE: Final = 50
"""Pause after a slice, as a multiple of its duration: comparing takes two percent of a processor."""

PAUSE_S_MIN: Final = 0.2
ROUND_S_MIN: Final = 60.0
"""Minimum seconds between the starts of two rounds."""

ANSWER_S_MAX: Final = 5.0
"""Maximum seconds to wait for the next message of a slice."""

HEADERS_BYTES_MAX: Final = 1_024
"""Bytes of a message reserved for headers."""

OWNER: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
NAME: Final = re.compile(r"[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100}){1,3}", re.ASCII)
NOBODY: Final = "_"
"""The owner in a subject if the event cannot be read or its owner does not fit into a subject."""

UNNAMED: Final = "event.unnamed"
"""The event name in a subject if a topic does not fit."""

SEQUENCE: Final = "Nats-Sequence"
STATUS: Final = "Status"


@dataclass(frozen=True, slots=True)
class BroadcastMessage:
    """An event as it is broadcast. `without_state`: its content is left out, so that later events are not blocked.

    That happens to damaged events and to those that NATS would refuse.
    """

    subject: str
    payload: bytes
    without_state: bool = False
    is_damaged: bool = False


def message_of(event: RawEvent, bytes_max: int) -> BroadcastMessage:
    """The message for an event, at most `bytes_max` bytes."""
    try:
        owner, is_damaged = str(orjson.loads(event.state)["meta"]["owner"]), False
    except (KeyError, TypeError, ValueError):
        owner, is_damaged = NOBODY, True
    subject = ledger_subject(owner if OWNER.fullmatch(owner) else NOBODY, _name_in_subject(event.topic))
    whole = b"" if is_damaged else _payload(event, orjson.Fragment(event.state))
    if whole and len(whole) <= bytes_max:
        return BroadcastMessage(subject, whole)
    return BroadcastMessage(subject, _payload(event, None), without_state=True, is_damaged=is_damaged)


def message_bytes_max(broker: Broker, info: StreamInfo) -> int:
    """Maximum bytes of a message, for the server and the stream."""
    of_stream = info.config.max_msg_size or -1
    most = broker.client.max_payload if of_stream <= 0 else min(of_stream, broker.client.max_payload)
    return most - HEADERS_BYTES_MAX


def why_incomplete(state: StreamState) -> str | None:
    """Why the stream's own state is impossible: no message is ever removed from it."""
    if state.messages == state.last_seq and not state.num_deleted:
        return None
    return f"{state.messages} of {state.last_seq} messages are left"


@dataclass(frozen=True, slots=True)
class Difference:
    """A message of a stream (created at `created`) that is not the event at its position.

    `is_of_another_history`: it is an intact but different event. NATS keeps checksums, so that is not damage.
    """

    created: str
    position: int
    sentence: str
    is_of_another_history: bool = False


class Comparison:
    """Compares the stream in rounds. `difference_in` returns the result."""

    def __init__(self, ledger: Ledger, broker: Broker) -> None:
        self._ledger = ledger
        self._broker = broker
        self._compared = 0
        self._found: Difference | None = None
        self._why_not = ""

    def difference_in(self, info: StreamInfo) -> Difference | None:
        """The difference found in this stream; None if none is known, and for a newer stream."""
        return self._found if self._found is not None and self._found.created == str(info.created) else None

    async def run(self, stop: asyncio.Event) -> None:
        """Compare until stopped.

        Unreadable messages are read again later; a user without the right to read logs that once.
        """
        began_round = float("-inf")
        while not stop.is_set():
            began = time.monotonic()
            if self._compared == 0:
                began_round = began
            await self._tried()
            now = time.monotonic()
            pause_s = max(PAUSE_S_MIN, SHARE * (now - began))
            if self._compared == 0:
                pause_s = max(pause_s, began_round + ROUND_S_MIN - now)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()

    async def step(self) -> int:
        """Compare the next slice; returns the number of messages.

        0 means that the round has ended; the next call starts another.
        """
        info = await ensure_ledger_stream(self._broker.jetstream, self._broker.replicas)
        first, last = self._compared + 1, min(self._compared + SLICE_EVENTS, info.state.last_seq)
        if last < first:
            self._compared = 0
            return 0
        held = await self._read(first, last)
        events = await asyncio.to_thread(self._ledger.read_raw, self._compared, last - self._compared)
        bytes_max = message_bytes_max(self._broker, info)
        for event in events:
            if not _is_same(event, held.get(event.position), bytes_max):
                self._found = await self._confirmed(event, str(info.created), bytes_max)
                if self._found is not None:
                    self._compared = 0
                    return 0
        self._compared = last
        LEDGER_STREAM_COMPARED.inc(len(events))
        return len(events)

    async def _tried(self) -> None:
        try:
            if self._broker.connected:
                await self.step()
            self._why_not = ""
        except TimeoutError:
            self._not_now("NATS did not answer; its user may need the rights that docs/least-rights.md names")
        except (Unavailable, NatsError, OSError) as error:
            self._not_now(str(error))

    def _not_now(self, why: str) -> None:
        if why != self._why_not:
            log.warning("the stream %s is not compared with the ledger now: %s", LEDGER_STREAM, why)
        self._why_not = why
        self._compared = 0

    async def _confirmed(self, event: RawEvent, created: str, bytes_max: int) -> Difference | None:
        """Ask the stream's leader: a slice may come from a replica that lags behind."""
        try:
            held = (await self._broker.jetstream.get_msg(LEDGER_STREAM, event.position)).data or b""
        except NotFoundError:
            return Difference(created, event.position, f"message {event.position} is missing or cannot be read")
        if _is_same(event, held, bytes_max):
            return None
        sentence = f"message {event.position} has another content than the ledger"
        return Difference(created, event.position, sentence, is_of_another_history=_is_other_event(event, held))

    async def _read(self, first: int, last: int) -> dict[int, bytes]:
        """The messages of the stream by sequence, without missing or unreadable ones."""
        client = self._broker.client
        inbox = client.new_inbox()
        arriving = await client.subscribe(inbox)
        held: dict[int, bytes] = {}
        try:
            asked = orjson.dumps({"seq": first, "batch": last - first + 1})
            await client.publish(f"$JS.API.DIRECT.GET.{LEDGER_STREAM}", asked, reply=inbox)
            while True:
                message = await arriving.next_msg(timeout=ANSWER_S_MAX)
                headers: Mapping[str, str] = message.headers or {}
                if STATUS in headers or SEQUENCE not in headers:
                    return held
                held[int(headers[SEQUENCE])] = message.data
        finally:
            with suppress(NatsError):
                await arriving.unsubscribe()


def _is_same(event: RawEvent, held: bytes | None, bytes_max: int) -> bool:
    """Whether a message is the event as it is broadcast, in any JSON formatting."""
    if held is None:
        return False
    whole = message_of(event, bytes_max).payload
    return held == whole or _json_of(held) == orjson.loads(whole)


def _is_other_event(event: RawEvent, held: bytes) -> bool:
    told = _json_of(held)
    return isinstance(told, dict) and (told.get("stream"), told.get("version"), told.get("topic")) != (
        str(event.stream_id),
        event.version,
        event.topic,
    )


def _json_of(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def _payload(event: RawEvent, state: orjson.Fragment | None) -> bytes:
    content: dict[str, Any] = {
        "position": event.position,
        "stream": event.stream_id,
        "version": event.version,
        "topic": event.topic,
        "state": state,
    }
    return orjson.dumps(content)


@lru_cache(maxsize=1_000)
def _name_in_subject(topic: str) -> str:
    name = name_of(topic)
    return name if NAME.fullmatch(name) else UNNAMED
