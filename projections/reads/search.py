"""Word search in views: convert a user's query for Postgres, and refuse a query without words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from domain.errors import FieldProblem, InvalidInput

NOTHING_TO_SEARCH: Final = "DR422"
"""SQL error code of `search_query` in the schema: the text has no searchable word."""

NEGATED: Final = re.compile(r"(?<!\S)-+([^\s\"]+)")


def web_search(text: str) -> str:
    """The query for `search_query`. A negated word is quoted, because Postgres may split it into several words.

    Examples are an emoji and a word in a script without spaces. Without quotes only the first part would be negated.
    """
    parts = text.split('"')
    parts[::2] = [NEGATED.sub(r'-"\1"', outside) for outside in parts[::2]]
    return '"'.join(parts)


@contextmanager
def searching() -> Iterator[None]:
    """Raise `InvalidInput` for a search without a word."""
    try:
        yield
    except psycopg.DatabaseError as error:
        if error.sqlstate != NOTHING_TO_SEARCH:
            raise
        detail = "holds no word to search for; letters, digits and emoji can be found, punctuation alone cannot"
        raise InvalidInput([FieldProblem("q", detail)]) from None
