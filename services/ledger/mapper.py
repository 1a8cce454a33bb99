"""Convert events to their stored form and back: stable names and JSON instead of the library's class paths."""

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
from services.ledger.commits import NewEvent


class EventMapper(Mapper[UUID]):
    """Stores events under their stable names, as JSON with their envelope; the library would use class paths."""

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__(JSONTranscoder())
        self._codec = codec or Codec()

    def encode(self, stream_id: UUID, version: int, event: Event, envelope: Envelope) -> NewEvent:
        """The event, ready to append. All events except those of a bundle pass through here.

        Raises `InvalidInput` and `EventTooLarge` if a limit is exceeded.
        """
        require_bounds(event)
        topic, data = self._codec.encode(event)
        state = orjson.dumps({"meta": envelope, "data": orjson.Fragment(data)})
        if len(state) > EVENT_BYTES_MAX:
            raise EventTooLarge(name_of(topic), len(state), EVENT_BYTES_MAX)
        return NewEvent(stream_id, version, topic, state)

    def read(self, position: int, stream_id: UUID, version: int, topic: str, state: bytes) -> Recorded | Unreadable:
        """A stored event; `Unreadable` if this version does not know it or its JSON is damaged.

        Any exception of the decoder counts as a fault of the event. If it ended a follower, the follower would fail
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
    """Parse a UUID, cached: events of one job come close together, and parsing ids is a third of decoding."""
    return UUID(text)
