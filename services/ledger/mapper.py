"""Events to what is stored, and back: stable names and JSON, where the library would write class paths."""

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from eventsourcing.persistence import JSONTranscoder, Mapper

from domain.codec import Codec, UnknownEvent, name_of
from domain.envelope import Envelope, Recorded, Unreadable
from domain.events import Event
from services.flusher import NewEvent


class EventMapper(Mapper[UUID]):
    """Events under their stable names, as JSON with their envelope around; the library's topics are class paths."""

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__(JSONTranscoder())
        self._codec = codec or Codec()

    def encode(self, stream_id: UUID, version: int, event: Event, envelope: Envelope) -> NewEvent:
        """The event, ready to be appended."""
        topic, data = self._codec.encode(event)
        return NewEvent(stream_id, version, topic, orjson.dumps({"meta": envelope, "data": orjson.Fragment(data)}))

    def read(self, position: int, stream_id: UUID, version: int, topic: str, state: bytes) -> Recorded | Unreadable:
        """A stored event in its place; `Unreadable` when this version does not know it or its JSON is damaged."""
        try:
            stored = orjson.loads(state)
            current, event, data = self._codec.decode(topic, stored["data"])
            envelope = _envelope(stored["meta"])
        except (UnknownEvent, AttributeError, KeyError, TypeError, ValueError) as error:
            return Unreadable(position, stream_id, version, topic, f"{type(error).__name__}: {error}")
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
