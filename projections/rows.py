"""Rows that events fold into, and the memory of those that were stored last."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

Row = dict[str, Any]
Rows = dict[str, Row | None]
"""Rows of one table by their key as text. None: there is no such row, or it is to be deleted."""

ROWS_MAX: Final = 2_000
"""Of one table: some seconds of a busy queue, a few megabytes."""


class Memory:
    """The rows of one table that were touched last, by their key as text; None: there is no such row.

    They hold while nobody else writes the table and every batch lands. Whoever cannot be sure of that forgets them.
    """

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._rows: OrderedDict[str, Row | None] = OrderedDict()

    def known(self, keys: Iterable[str]) -> Rows:
        """Those of these rows that are remembered, to be changed in place."""
        return {key: self._rows[key] for key in keys if key in self._rows}

    def keep(self, rows: Rows) -> None:
        """Remember what these have become."""
        self._rows.update(rows)
        for key in rows:
            self._rows.move_to_end(key)
        while len(self._rows) > self._rows_max:
            self._rows.popitem(last=False)

    def forget(self) -> None:
        """Remember nothing."""
        self._rows.clear()
