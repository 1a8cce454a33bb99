"""Writes answers: JSON by orjson, times in UTC with a Z, the position of a write in its header."""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from api.http.read_your_writes import POSITION


def encoded(content: Any) -> bytes:
    """Encode dictionaries that may hold UUIDs, times and enums as JSON."""
    return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def answer(content: Any, status: int = 200, *, position: int | None = None, **headers: str) -> Response:
    """A JSON answer; `position` is that of a write. Underscores in the names of `headers` become dashes."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if position is not None:
        sent[POSITION] = str(position)
    return Response(encoded(content), status_code=status, headers=sent, media_type="application/json")


def listed(results: Sequence[Any], following: str | None = None) -> Response:
    """A page of a list."""
    return answer({"results": results, "next": following})
