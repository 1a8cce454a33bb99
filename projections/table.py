"""Tables of views. The columns of each are written once, in its `Table`; the statements follow from them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, LiteralString

from projections.sql import assignments, column_list, load

TEMPLATES: Final = load("table.sql")


@dataclass(frozen=True)
class Table:
    """A table of a view, without a schema: its key, and the other columns that the projection writes.

    Columns that Postgres generates, or that a statement of their own computes, are not among them. `load` and `remove`
    need a key of one column, a uuid.
    """

    name: LiteralString
    key: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the projection writes."""
        return (*self.key, *self.others)

    @cached_property
    def load(self) -> LiteralString:
        """Array of keys → each key that has a row, with the row as JSON."""
        return self._filled("load")

    @cached_property
    def insert(self) -> LiteralString:
        """Insert rows, given as JSON. Fails if a key has a row already."""
        return self._filled("insert")

    @cached_property
    def store(self) -> LiteralString:
        """Insert rows, given as JSON, or replace those of the same key."""
        return self._filled("store")

    @cached_property
    def remove(self) -> LiteralString:
        """Delete the rows of an array of keys."""
        return self._filled("remove")

    @cached_property
    def copy(self) -> LiteralString:
        """Copy rows in, each a tuple in the order of `columns`. Fails if a key has a row already."""
        return self._filled("copy")

    def _filled(self, template: str) -> LiteralString:
        return TEMPLATES[template].format(
            table=self.name,
            key=column_list(self.key),
            columns=column_list(self.columns),
            changes=assignments(self.others, "excluded"),
        )
