"""Names of settings: which ones nothing reads, and what was probably meant."""

from collections.abc import Iterable, Set
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "DARKROOM_"
"""Of the environment variable of each setting."""

NO_SETTINGS: Final = frozenset({"DARKROOM_CRASH_AT"})
"""What else begins so: `services.crash_points` says what it is."""


def unread(names: Iterable[str], known: Set[str]) -> str | None:
    """The variables that are not among the known ones, with what may be meant; None where there are none."""
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known | NO_SETTINGS)
    return ", ".join(_with_advice(name, known) for name in unknown) or None


def _with_advice(name: str, known: Iterable[str]) -> str:
    endings = sorted(each.removeprefix(PREFIX) for each in known)
    near = get_close_matches(name.removeprefix(PREFIX), endings, n=1)
    return f"{name} (did you mean {PREFIX}{near[0]}?)" if near else name
