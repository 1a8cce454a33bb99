"""The protocol of a projection, and its most common kind: rows folded from events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.envelope import Recorded
from projections.arrays import uuids
from projections.table import Table

Row = dict[str, Any]
Rows = dict[str, Row | None]
"""Rows of one table by their key as text. None marks a row to delete."""


class Projection(Protocol):
    """Events in, set-wise SQL out. No clock, no network; the projector owns the transaction and the search path."""

    @property
    def name(self) -> str:
        """The view's name."""
        ...

    @property
    def tables(self) -> Sequence[str]:
        """The view's tables, without a schema: the search path selects the live or the new ones."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """The events it takes: an aggregate (`job`) or an event name (`asset.rated`); empty takes all.

        Other events are not decoded for it; decoding is most of an event's cost.
        """
        ...

    @property
    def version(self) -> int:
        """Version, increased when the same events make other rows. A view of another version is rebuilt first."""
        ...

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """Apply events in ledger order."""
        ...


@dataclass(frozen=True, slots=True)
class FoldedTable:
    """A table with rows folded from events: load the rows of a batch of events, fold in memory, store them.

    `touched` names the keys that an event changes, `fold` changes the rows in place. `store` replaces the statement of
    the table that stores rows.
    """

    table: Table
    touched: Callable[[Recorded], Sequence[UUID]]
    fold: Callable[[Rows, Recorded], None]
    store: LiteralString | None = None

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """Fold a batch with two statements, for any number of events."""
        keys: set[UUID] = set()
        touching: list[Recorded] = []
        for event in events:
            if touched := self.touched(event):
                keys.update(touched)
                touching.append(event)
        if not keys:
            return
        found = cursor.execute(self.table.load, (uuids(keys),), prepare=True, binary=True).fetchall()
        rows: Rows = {str(key): orjson.loads(row) for key, row in found}
        before = set(rows)
        for event in touching:
            self.fold(rows, event)
        stored = [row for row in rows.values() if row is not None]
        if stored:
            cursor.execute(self.store or self.table.store, (orjson.dumps(stored).decode(),), prepare=True)
        removed = [key for key, row in rows.items() if row is None and key in before]
        if removed:
            cursor.execute(self.table.remove, (removed,), prepare=True)


@dataclass(frozen=True, slots=True)
class FoldedView:
    """A view of one or more folded tables."""

    name: str
    folded: tuple[FoldedTable, ...]
    kinds: tuple[str, ...] = ()
    version: int = 1

    @property
    def tables(self) -> Sequence[str]:
        """See `Projection`."""
        return [folded.table.name for folded in self.folded]

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`."""
        for folded in self.folded:
            folded.project(events, cursor)
