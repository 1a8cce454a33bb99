"""The metadata of an event: who, when, why, and its position in the ledger."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.events import Event


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who caused the event (`actor`), its `owner`, its time, and its command.

    `correlation_id` is the id of the job, `causation_id` that of the command or event that caused this one.
    """

    actor: str
    owner: str
    at: datetime
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stored event: `position` in the ledger, `version` in its stream. `data` is its upcast JSON."""

    position: int
    stream_id: UUID
    version: int
    name: str
    event: Event
    data: dict[str, Any]
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event that this version cannot read because it is unknown or damaged. It is never skipped silently."""

    position: int
    stream_id: UUID
    version: int
    topic: str
    reason: str

    @property
    def name(self) -> str:
        """Like `Recorded.name` but with the version, which may not be at the usual place in an unknown topic."""
        return self.topic
