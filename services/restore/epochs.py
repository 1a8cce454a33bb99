"""Epochs: each restore of the ledger begins one, and event ids of clients contain their epoch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from projections.sql import load

SQL = load("epochs.sql", "services.restore")

SHORT: Final = 8
"""Characters of an epoch in an event id."""

EVENT_ID: Final = re.compile(rf"(?:([0-9a-f]{{{SHORT}}})-)?(\d{{1,19}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One incarnation of the ledger. Positions before `from_position` are unchanged from the epoch before."""

    epoch: UUID
    number: int
    from_position: int
    instead_of: UUID | None = None
    replaced_stream: str | None = None

    @property
    def short(self) -> str:
        """The epoch's form in an event id; empty for the first, which has plain positions as ids."""
        return "" if self.number == 0 else self.epoch.hex[:SHORT]


class EventId(NamedTuple):
    """A place in a client's event stream: the short form of an epoch, and a position in it."""

    epoch: str
    position: int


def read_epochs(connection: Connection[TupleRow]) -> list[Epoch]:
    """All epochs of the ledger, the first one first."""
    with connection.cursor(row_factory=class_row(Epoch)) as cursor:
        return cursor.execute(SQL["epochs"]).fetchall()


def stopped_reason(connection: Connection[TupleRow]) -> str | None:
    """Why writes are stopped; None if they are not."""
    row = connection.execute(SQL["stopped"]).fetchone()
    return None if row is None else str(row[0])


def stop_writes(connection: Connection[TupleRow], reason: str) -> None:
    """Refuse every append from now on, in every process. The first reason stays."""
    connection.execute(SQL["stop"], (reason,))


def event_id_of(text: str) -> EventId | None:
    """Parse `Last-Event-ID`; None if it is invalid."""
    found = EVENT_ID.fullmatch(text)
    return None if found is None else EventId(found[1] or "", int(found[2]))


class Epochs:
    """All epochs of the ledger, and the positions that they share. Immutable."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        self._epochs = tuple(epochs)

    @property
    def current(self) -> Epoch | None:
        """The current epoch; None for a ledger in memory."""
        return self._epochs[-1] if self._epochs else None

    def label(self, position: int) -> bytes:
        """The event id of a position of this ledger, with the epoch since which its event is unchanged."""
        for epoch in reversed(self._epochs[1:]):
            if position >= epoch.from_position:
                return b"%s-%d" % (epoch.short.encode(), position)
        return b"%d" % position

    def shared_with(self, epoch: str) -> int | None:
        """The last position that this ledger shares with that epoch; None for the current epoch.

        For an epoch that a backup did not know, the epoch that followed it decides; an unknown one shares the least.
        """
        if not self._epochs:
            return None
        known = next((one.number for one in self._epochs if one.short == epoch), None)
        if known is not None:
            return min((one.from_position - 1 for one in self._epochs if one.number > known), default=None)
        after = [one for one in self._epochs if one.instead_of and one.instead_of.hex[:SHORT] == epoch]
        return min((one.from_position - 1 for one in after or self._epochs[1:]), default=0)
