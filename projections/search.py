"""Searching words in views: what people type, as Postgres takes it, and a refusal of what holds no word."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from domain.errors import FieldProblem, InvalidInput

NOTHING_TO_SEARCH: Final = "DR422"
"""The error class of `search_query` in the schema: the text holds no word that could be found."""

NEGATED: Final = re.compile(r"(?<!\S)-+([^\s\"]+)")


def web_search(text: str) -> str:
    """Return the query for `search_query`: a negated word stands in quotes, since it may become several words.

    An emoji and a word in a script without spaces are examples; without quotes only their first part is negated.
    """
    parts = text.split('"')
    parts[::2] = [NEGATED.sub(r'-"\1"', outside) for outside in parts[::2]]
    return '"'.join(parts)


@contextmanager
def searching() -> Iterator[None]:
    """Raise `InvalidInput` for a search that holds no word."""
    try:
        yield
    except psycopg.DatabaseError as error:
        if error.sqlstate != NOTHING_TO_SEARCH:
            raise
        detail = "holds no word to search for; letters, digits and emoji can be found, punctuation alone cannot"
        raise InvalidInput([FieldProblem("q", detail)]) from None
