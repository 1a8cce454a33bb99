"""Reads server-sent events for the command line."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

BUFFER_BYTES_MAX = 4 * 1024 * 1024
"""Maximum bytes without the end of a line; a history item is a few kB."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event. `position` is that of its `id:`; progress has none."""

    position: int | None
    type: str
    data: dict[str, Any]
    id: str | None = None
    """The id to resume from: after a restore it also contains the epoch."""


async def parse_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerEvent]:
    r"""Parse events. Lines end only at \n or \r\n: JSON may contain the other characters that split a text.

    Raises `ValueError` if the bytes are not an event stream.
    """
    fields: dict[str, str] = {}
    buffer = b""
    async for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > BUFFER_BYTES_MAX:
            raise ValueError("a line without end")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            name, _, value = line.partition(":")
            if not line:
                if "data" in fields:
                    yield _event(fields)
                fields = {}
            elif name:  # without a name it is a comment, which only shows that the connection is alive
                value = value.removeprefix(" ")
                fields[name] = f"{fields['data']}\n{value}" if name == "data" and name in fields else value


def _event(fields: dict[str, str]) -> ServerEvent:
    position = fields.get("id", "").rpartition("-")[2]
    data = json.loads(fields["data"])
    if not isinstance(data, dict):
        raise ValueError("an event that is not a JSON object")
    return ServerEvent(
        int(position) if position.isdecimal() else None, fields.get("event", "message"), data, fields.get("id")
    )
