"""Find environment variables that no setting reads, and suggest what was meant."""

from collections.abc import Iterable, Set
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "DARKROOM_"
"""Prefix of the environment variable of each setting."""

NO_SETTINGS: Final = frozenset({"DARKROOM_CRASH_AT"})
"""Variables with the prefix that are not settings: see `services.crash_points`."""


def unread(names: Iterable[str], known: Set[str]) -> str | None:
    """The unknown variables with suggestions; None if all are known."""
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known | NO_SETTINGS)
    return ", ".join(_with_advice(name, known) for name in unknown) or None


def _with_advice(name: str, known: Iterable[str]) -> str:
    endings = sorted(each.removeprefix(PREFIX) for each in known)
    near = get_close_matches(name.removeprefix(PREFIX), endings, n=1)
    return f"{name} (did you mean {PREFIX}{near[0]}?)" if near else name
