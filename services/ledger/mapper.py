"""Events to what is stored, and back: stable names and JSON, where the library would write class paths."""

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from eventsourcing.persistence import JSONTranscoder, Mapper

from domain.bounds import EVENT_BYTES_MAX, MESSAGE_CHARACTERS_MAX, cut, require_bounds
from domain.codec import Codec, name_of
from domain.envelope import Envelope, Recorded, Unreadable
from domain.errors import EventTooLarge
from domain.events import Event
from services.flusher import NewEvent


class EventMapper(Mapper[UUID]):
    """Events under their stable names, as JSON with their envelope around; the library's topics are class paths."""

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__(JSONTranscoder())
        self._codec = codec or Codec()

    def encode(self, stream_id: UUID, version: int, event: Event, envelope: Envelope) -> NewEvent:
        """The event, ready to be appended: every door of the ledger but a bundle's comes by here.

        Raises `InvalidInput` and `EventTooLarge` for what passes a bound.
        """
        require_bounds(event)
        topic, data = self._codec.encode(event)
        state = orjson.dumps({"meta": envelope, "data": orjson.Fragment(data)})
        if len(state) > EVENT_BYTES_MAX:
            raise EventTooLarge(name_of(topic), len(state), EVENT_BYTES_MAX)
        return NewEvent(stream_id, version, topic, state)

    def read(self, position: int, stream_id: UUID, version: int, topic: str, state: bytes) -> Recorded | Unreadable:
        """A stored event in its place; `Unreadable` when this version does not know it or its JSON is damaged.

        Whatever its content makes the decoder raise is the event's own fault: a follower that it ended would meet it
        again at every start.
        """
        try:
            stored = orjson.loads(state)
            current, event, data = self._codec.decode(topic, stored["data"])
            envelope = _envelope(stored["meta"])
        except Exception as error:
            reason = cut(f"{type(error).__name__}: {error}", MESSAGE_CHARACTERS_MAX)
            return Unreadable(position, stream_id, version, topic, reason)
        return Recorded(position, stream_id, version, name_of(current), event, data, envelope)


def _envelope(meta: dict[str, Any]) -> Envelope:
    causation = meta["causation_id"]
    return Envelope(
        actor=meta["actor"],
        owner=meta["owner"],
        at=datetime.fromisoformat(meta["at"]),
        command_id=_uuid(meta["command_id"]),
        correlation_id=_uuid(meta["correlation_id"]),
        causation_id=None if causation is None else _uuid(causation),
    )


@lru_cache(maxsize=10_000)
def _uuid(text: str) -> UUID:
    """Events of one job come close together and name it each time; parsing them is a third of decoding."""
    return UUID(text)
