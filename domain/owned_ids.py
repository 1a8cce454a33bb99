"""Ids that follow from an owner and a name: the same request again finds the same thing, and no owner another's."""

from functools import lru_cache
from uuid import UUID, uuid5


def owned_id(kind: UUID, owner: str, name: str) -> UUID:
    """The id of the thing that `owner` calls `name`. `kind` is the namespace of a kind of things; it never changes."""
    return uuid5(_namespace(kind, owner), name)


@lru_cache(maxsize=1_000)
def _namespace(kind: UUID, owner: str) -> UUID:
    return uuid5(kind, owner)
