"""Values that a request cannot carry: found before anything is sent, with their place."""

import math
from collections.abc import Mapping, Sequence

import typer


def require_sendable(value: object) -> None:
    """Raises `typer.BadParameter` for a value that JSON or UTF-8 does not have."""
    problem = why_unsendable(value)
    if problem is not None:
        raise typer.BadParameter(problem)


def why_unsendable(value: object, path: str = "") -> str | None:
    """The first part of a document that JSON or UTF-8 does not have, as PATH: reason; None if there is none."""
    match value:
        case Mapping():
            parts = [(key, f"the name of a field in {path}".removesuffix(" in ")) for key in value]
            parts += [(each, f"{path}.{key}".lstrip(".")) for key, each in value.items()]
        case str():
            return None if _is_utf8(value) else f"{path}: the text is not UTF-8"
        case Sequence():
            parts = [(each, f"{path}.{index}".lstrip(".")) for index, each in enumerate(value)]
        case int() | float():
            return None if _is_finite(value) else f"{path}: a number must be finite, and below 1e308"
        case None:
            return None
        case _:
            return f"{path}: JSON has no {type(value).__name__}; put it in quotes"
    return next((problem for each, place in parts if (problem := why_unsendable(each, place))), None)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float can hold
        return False
