"""Lists: their parameters and opaque cursors.

A cursor is the place of the last item, so new items do not shift pages.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

from fastapi import Query
from pydantic import AfterValidator

from api.http.bodies.texts import TAG_CHARACTERS_MAX
from api.http.errors import InvalidCursor
from api.http.read_your_writes import POSITION_MAX
from domain.wording.text import normalized

LIMIT_MAX: Final = 200
LIMIT_DEFAULT: Final = 50


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _words(text: str | None) -> str | None:
    return None if text is None or not text.strip() else _without_nul(text)


Text = Annotated[str, AfterValidator(_without_nul)]
"""A filter that Postgres can compare with."""

TagText = Annotated[str, Query(max_length=TAG_CHARACTERS_MAX), AfterValidator(_without_nul), AfterValidator(normalized)]
"""A tag to filter by, normalised like stored tags."""

Words = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Words to search for, as in a web search: quotes for a phrase, `or`, `-word`. Blank: no search.",
    ),
    AfterValidator(_words),
]

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]

ItemT = TypeVar("ItemT")


def cursor_of(list_name: str, *place: int) -> str:
    """The cursor for the items after `place` in that list."""
    text = ":".join([list_name, *map(str, place)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(list_name: str, cursor: str | None, parts: int = 1) -> tuple[int, ...] | None:
    """The place of a cursor; None without one. Raises `InvalidCursor`."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        name, *numbers = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(":")
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
    whole = len(numbers) == parts and all(number.isdecimal() and len(number) <= 19 for number in numbers)
    if name != list_name or not whole:
        raise InvalidCursor
    place = tuple(int(number) for number in numbers)
    if max(place) > POSITION_MAX:
        raise InvalidCursor
    return place


def page_of(
    found: Sequence[ItemT], limit: int, list_name: str, place: Callable[[ItemT], Sequence[int]]
) -> tuple[Sequence[ItemT], str | None]:
    """The page and its `next`, from up to `limit` + 1 items: the extra one shows that more follow."""
    page = found[:limit]
    more = len(found) > limit
    return page, cursor_of(list_name, *place(page[-1])) if more else None
