"""Server-sent events for the command line: `httpx-sse` parses them, within a limit that it does not have."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
from httpx_sse import EventSource

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Maximum bytes without the end of an event; a history item is a few kB. The library keeps an event until it ends."""

ENDS_OF_EVENTS: Final = b"\n\n", b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event. `position` is that of its `id`; None before the first event with an id."""

    position: int | None
    type: str
    data: dict[str, Any]
    id: str | None = None
    """The id to resume from: that of the last event with one. After a restore it also contains the epoch."""


async def events_in(response: httpx.Response) -> AsyncIterator[ServerEvent]:
    """The events of an answer.

    Raises `ValueError` if the bytes are not an event stream, and `httpx_sse.SSEError` if the answer is no event stream.
    """
    # A new response, since its bytes are limited after decompression.
    kind = {"Content-Type": response.headers.get("Content-Type", "")}
    limited = httpx.Response(response.status_code, headers=kind, stream=_Limited(response.aiter_bytes()))
    async for event in EventSource(limited).aiter_sse():
        if event.data:  # a comment or `retry:` alone, which only shows that the connection is alive, has none
            position = event.id.rpartition("-")[2]
            yield ServerEvent(
                int(position) if position.isdecimal() else None, event.event, _object(event.data), event.id or None
            )


class _Limited(httpx.AsyncByteStream):
    """The same bytes, as long as every event ends in time. Raises `ValueError`."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unended_bytes = 0
        before = b""
        async for chunk in self._chunks:
            seen = before + chunk
            end = max(seen.rfind(mark) for mark in ENDS_OF_EVENTS)
            unended_bytes = len(seen) - end if end >= 0 else unended_bytes + len(chunk)
            if unended_bytes > EVENT_BYTES_MAX:
                raise ValueError("an event without end")
            before = seen[-3:]  # the end of an event may be cut
            yield chunk


def _object(data: str) -> dict[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("an event that is not a JSON object")
    return found
