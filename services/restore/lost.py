"""Finds what LEDGER holds and the ledger lost: where the two differ, and the events after that position."""

import asyncio
import gzip
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from services.ledger import RawEvent
from services.messaging.wire import LEDGER_STREAM
from services.restore.comparing import EPOCH, identity_at, identity_of_event, is_same

AT_ONCE: Final = 256
"""Messages requested at a time."""

STATE: Final = b',"state":'
"""The text before the state in a message: the state's bytes are copied unchanged, since the chain covers them."""

ReadAt = Callable[[int], RawEvent | None]
"""Reads the ledger's event at a position."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The events that only LEDGER has. `shared` is the last position at which both hold the same event.

    `events` are those of LEDGER after it, up to `last`, without missing or damaged ones. `made` is the stream's
    creation time and `epoch` the one in its metadata; both None without a stream.
    """

    shared: int
    last: int
    events: Sequence[RawEvent]
    made: str | None
    epoch: UUID | None
    scattered: bool = False
    """Whether LEDGER and the ledger differ in the middle but agree at the end: the ledger grew and was published,
    unnoticed."""

    @property
    def is_whole(self) -> bool:
        """Whether every lost event is present."""
        return not self.scattered and self.count == len(self.events)

    @property
    def count(self) -> int:
        """The number of events that the ledger lost."""
        return len(self.events) if self.scattered else self.last - self.shared


async def find_lost(jetstream: JetStreamContext, read_at: ReadAt, head: int, *, thorough: bool = False) -> Lost:
    """Bisect for the position from which LEDGER and a ledger that ends at `head` differ, and read the events after it.

    `thorough`: if both agree at the end, compare every message.
    """
    try:
        info = await jetstream.stream_info(LEDGER_STREAM)
    except NotFoundError:
        return Lost(head, head, (), None, None)
    last = info.state.last_seq
    shared = await _last_shared(jetstream, read_at, min(last, head))
    named = (info.config.metadata or {}).get(EPOCH)
    about = str(info.created), UUID(named) if named else None
    if shared < last:
        return Lost(shared, last, await _events(jetstream, shared + 1, last), *about)
    scattered = await _scattered(jetstream, read_at, last) if thorough else []
    if scattered:
        return Lost(scattered[0].position - 1, last, scattered, *about, scattered=True)
    return Lost(max(head, last), max(head, last), (), *about)  # the ledger has everything that LEDGER has


async def _scattered(jetstream: JetStreamContext, read_at: ReadAt, last: int) -> list[RawEvent]:
    """The events of LEDGER at positions where the ledger holds other events."""
    found: list[RawEvent] = []
    for start in range(1, last + 1, AT_ONCE):
        for theirs in await _events(jetstream, start, min(start + AT_ONCE - 1, last)):
            ours = await asyncio.to_thread(read_at, theirs.position)
            if ours is None or not is_same(identity_of_event(ours), identity_of_event(theirs)):
                found.append(theirs)
    return found


async def _last_shared(jetstream: JetStreamContext, read_at: ReadAt, end: int) -> int:
    """The last shared position, at most `end`. An unreadable message of LEDGER counts like the one before it."""

    async def shares(position: int, down_to: int) -> tuple[int, bool]:
        for sequence in range(position, down_to, -1):
            theirs = await identity_at(jetstream, sequence)
            if theirs is not None:
                ours = await asyncio.to_thread(read_at, sequence)
                return sequence, ours is not None and is_same(identity_of_event(ours), theirs)
        return down_to, True

    at, is_shared = await shares(end, 0)
    if is_shared:
        return end
    low, high = 0, at  # low is shared, high is not
    while high - low > 1:
        middle = (low + high) // 2
        at, is_shared = await shares(middle, low)
        if is_shared:
            low = middle
        else:
            high = at
    return low


async def _events(jetstream: JetStreamContext, first: int, last: int) -> list[RawEvent]:
    found: list[RawEvent] = []
    for start in range(first, last + 1, AT_ONCE):
        asked = [_event_at(jetstream, sequence) for sequence in range(start, min(start + AT_ONCE, last + 1))]
        found += [event for event in await asyncio.gather(*asked) if event is not None]
    return found


async def _event_at(jetstream: JetStreamContext, sequence: int) -> RawEvent | None:
    """The event of a message, with the unchanged bytes of its state; None if it or its state is missing."""
    try:
        data = (await jetstream.get_msg(LEDGER_STREAM, sequence)).data or b""
        told = orjson.loads(data)
        if told["state"] is None or told["position"] != sequence:
            return None
        state = data[data.index(STATE) + len(STATE) : -1]
        return RawEvent(sequence, UUID(told["stream"]), int(told["version"]), str(told["topic"]), state)
    except (NotFoundError, KeyError, TypeError, ValueError):
        return None


def save(lost: Lost, folder: Path) -> Path:
    """Write the lost events to a separate file, one line of JSON each. Synced to disk. Safe to repeat."""
    lines = b"".join(
        b'{"position":%d,"stream":"%s","version":%d,"topic":%s,"state":%s}\n'
        % (one.position, str(one.stream_id).encode(), one.version, orjson.dumps(one.topic), one.state)
        for one in lost.events
    )
    name = f"lost-{lost.shared + 1}-{lost.last}-{hashlib.sha256(lines).hexdigest()[:12]}.jsonl.gz"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, fresh = folder / name, folder / f".{name}.{os.getpid()}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(gzip.compress(lines, mtime=0))
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
    return file
