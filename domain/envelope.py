"""What surrounds a fact: who, when, why, and where it stands in the ledger."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.events import Event


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who did it (`actor`), to whom it belongs (`owner`), when, and by which command.

    `correlation_id` names the whole conversation (the job), `causation_id` the command or event that led to this one.
    """

    actor: str
    owner: str
    at: datetime
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in its place: `position` in the ledger, `version` in its stream. `data` is its upcast JSON."""

    position: int
    stream_id: UUID
    version: int
    name: str
    event: Event
    data: dict[str, Any]
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event that this version cannot read: unknown, or damaged. It is never skipped in silence."""

    position: int
    stream_id: UUID
    version: int
    topic: str
    reason: str

    @property
    def name(self) -> str:
        """As that of `Recorded`, with the version: that of an unknown event need not be where ours is."""
        return self.topic
