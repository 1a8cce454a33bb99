"""A server of the tests: real uvicorn with the API's connections, in a thread, before an application that echoes."""

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.protocol import BoundedConnection

PATIENCE_S = 60.0


class Received:
    """How many bytes the server has read of its connections, to send the next segment when it has the one before."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lost = 0
        self._changed = threading.Condition()

    def more(self, size: int) -> None:
        """The server has read a segment."""
        with self._changed:
            self._bytes += size
            self._changed.notify_all()

    def lost(self) -> None:
        """The server has closed a connection."""
        with self._changed:
            self._lost += 1
            self._changed.notify_all()

    def start(self) -> None:
        """Count from here."""
        with self._changed:
            self._bytes = self._lost = 0

    def wait_for(self, size: int) -> None:
        """Return when so many were read, or the connection was closed."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._bytes >= size or self._lost > 0, PATIENCE_S)

    def connection(self) -> type[BoundedConnection]:
        """The API's connection, which tells how much it has read."""
        counted = self

        class Told(BoundedConnection):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                counted.more(len(data))

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                counted.lost()

        return Told


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the size and hash of the body; at /refuse with 413 before it is read."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/refuse":
        await _answer(send, 413, {"code": "body_too_large"})
        return
    digest, size, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    await _answer(send, 200, {"bytes": size, "sha256": digest.hexdigest()})


async def _answer(send: Send, status: int, document: dict[str, Any]) -> None:
    content = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def in_a_thread(app: ASGIApp, http: type[BoundedConnection] = BoundedConnection) -> Iterator[tuple[str, int]]:
    """Serve until the block ends; host and port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, ws="none", log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = threading.Thread(target=lambda: asyncio.run(server._serve([listening])), daemon=True)
    serving.start()
    try:
        yield "127.0.0.1", listening.getsockname()[1]
    finally:
        server.should_exit = True
        serving.join(PATIENCE_S)
        listening.close()
