"""What a projection is, and the kind most of them are: rows that events fold into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.envelope import Recorded
from projections.arrays import uuids

Row = dict[str, Any]
Rows = dict[str, Row | None]
"""Rows of one table by their key as text. None: the row is to be deleted."""


class Projection(Protocol):
    """Events in, set-wise SQL out. No clock, no network; the projector owns the transaction and the search path."""

    @property
    def name(self) -> str:
        """The view's name."""
        ...

    @property
    def tables(self) -> Sequence[str]:
        """Its tables, named without a schema: the search path says whether they are the live ones."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """What it takes: all events of an aggregate (`job`), or of one name (`asset.rated`); empty for all there are.

        Others are not even decoded for it, which is most of what an event costs.
        """
        ...

    @property
    def version(self) -> int:
        """Goes up when the same events make other rows: a view that another version made is rebuilt first."""
        ...

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """Take events in ledger order."""
        ...


@dataclass(frozen=True, slots=True)
class FoldedTable:
    """A table whose rows are folds over events: load the rows that a batch touches, fold in memory, store them back.

    `touched` names the keys an event changes, `fold` changes them in place. `sql` holds `load` (keys → rows as JSON),
    `store` (JSON rows, upserted) and `remove` (keys).
    """

    name: str
    key: str
    touched: Callable[[Recorded], Sequence[UUID]]
    fold: Callable[[Rows, Recorded], None]
    sql: Mapping[str, LiteralString]

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """Fold a batch: two statements, however many events."""
        keys: set[UUID] = set()
        touching: list[Recorded] = []
        for event in events:
            if touched := self.touched(event):
                keys.update(touched)
                touching.append(event)
        if not keys:
            return
        found = cursor.execute(self.sql["load"], (uuids(keys),), prepare=True, binary=True).fetchall()
        rows: Rows = {str(key): orjson.loads(row) for key, row in found}
        before = set(rows)
        for event in touching:
            self.fold(rows, event)
        stored = [row for row in rows.values() if row is not None]
        if stored:
            cursor.execute(self.sql["store"], (orjson.dumps(stored).decode(),), prepare=True)
        removed = [key for key, row in rows.items() if row is None and key in before]
        if removed:
            cursor.execute(self.sql["remove"], (removed,), prepare=True)


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
        return [table.name for table in self.folded]

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`."""
        for table in self.folded:
            table.project(events, cursor)
