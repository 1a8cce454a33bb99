"""Tables for people: one line per row, fitted to the terminal's width, with wide characters counted as terminals do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = "  "
CUT: Final = "…"
LEAST: Final = 12
NARROWEST: Final = 8
"""Minimum width of a text column that may be cut, in columns of the terminal."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `whole`: never cut. `leave_at`: in a narrow terminal the highest is left out first; 0 always stays.

    `wrapped`: continues on further lines; only for the last column. `least`: the width, in columns of the terminal,
    below which another column is left out instead.
    """

    name: str
    whole: bool = True
    leave_at: int = 0
    wrapped: bool = False
    least: int = LEAST


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, its heading first; None as `width` means no limit.

    Columns that are `whole` are never cut: if the terminal is too narrow, lines are longer.
    """
    kept = list(range(len(columns)))
    wanted = [max(cells(text) for text in (columns[at].name, *(row[at] for row in rows))) for at in kept]
    if width is not None:
        while _least(columns, wanted, kept) > width and (left := _next_to_leave(columns, kept)) is not None:
            kept.remove(left)
        wanted = _narrowed(columns, wanted, kept, width)
    shown = [
        line
        for row in ([column.name.upper() for column in columns], *rows)
        for line in _lines(columns, row, wanted, kept)
    ]
    return [line.rstrip() for line in shown]


def cells(text: str) -> int:
    """The number of terminal columns that the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only where a text is not ASCII

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """The text in at most this many columns, with … for a missing part."""
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size  # noqa: PLC0415 - see `cells`

    return set_cell_size(text, max(0, width - 1)).rstrip() + CUT


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most this many columns, broken at spaces if there are any."""
    if cells(text) <= width:
        return [text]
    from rich.console import Console  # noqa: PLC0415 - see `cells`
    from rich.text import Text  # noqa: PLC0415

    return [line.plain.rstrip() for line in Text(text).wrap(Console(width=width), width)]


def _least(columns: Sequence[Column], wanted: Sequence[int], kept: Sequence[int]) -> int:
    """The minimum width of the table."""
    least = sum(wanted[at] if columns[at].whole else min(wanted[at], columns[at].least) for at in kept)
    return least + len(GAP) * (len(kept) - 1)


def _next_to_leave(columns: Sequence[Column], kept: Sequence[int]) -> int | None:
    leaving = [at for at in kept if columns[at].leave_at]
    return max(leaving, key=lambda at: columns[at].leave_at, default=None)


def _narrowed(columns: Sequence[Column], wanted: Sequence[int], kept: Sequence[int], width: int) -> list[int]:
    """Widths that fit: the widest column shrinks first."""
    narrowed = list(wanted)
    total = sum(narrowed[at] for at in kept) + len(GAP) * (len(kept) - 1)
    soft = [at for at in kept if not columns[at].whole]
    while total > width and (longest := max(soft, key=lambda at: narrowed[at], default=None)) is not None:
        if narrowed[longest] <= NARROWEST:
            break
        given = min(total - width, narrowed[longest] - NARROWEST)
        narrowed[longest] -= given
        total -= given
    return narrowed


def _lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int], kept: Sequence[int]) -> list[str]:
    """The row as one line, or as several if its last column is wrapped."""
    *first, last = kept
    start = GAP.join([_padded(_cut_to(columns[at], row[at], widths[at]), widths[at]) for at in first] + [""])
    if not columns[last].wrapped:
        return [start + _cut_to(columns[last], row[last], widths[last])]
    begun, *further = wrap(row[last], widths[last]) or [""]
    return [start + begun, *(" " * cells(start) + line for line in further)]


def _cut_to(column: Column, text: str, width: int) -> str:
    return text if column.whole else cut(text, width)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
