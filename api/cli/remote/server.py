"""Finds the server of the client commands, and runs such a command."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import typer

from api.cli.remote.failures import NoServer
from api.cli.terminal import command

if TYPE_CHECKING:
    from api.cli.remote.client import Client

CANCEL_AGAIN_S: Final = 0.5
"""Seconds between cancellations: anyio, which httpx uses, may swallow one that arrives while it connects."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server's URL, and the place of its files if it runs on this machine.

    `named` are the options that named the server: printed commands repeat them, except for a token.
    """

    url: str
    token: str
    blobs: Path | None
    named: tuple[str, ...] = ()

    def client(self) -> Client:
        """A new connection."""
        from api.cli.remote.client import Client  # noqa: PLC0415 - brings httpx; whoever only asks for help needs none

        return Client(self.url, self.token)

    def command(self, *words: str) -> str:
        """A command for the same server, ready to paste into a shell."""
        return command(*words, *self.named)


def find_server(url: str | None, token: str | None, data_dir: Path | None) -> Server:
    """From the options, else the settings, else the data folder. Raises `NoServer` and `SettingsError`."""
    from services.settings import Settings  # noqa: PLC0415 - brings pydantic; help and completion start without

    settings = Settings.from_environment()
    folder = data_dir or settings.data_dir
    own_url = _read(folder / "url")
    chosen = url or settings.url or own_url
    if chosen is None:
        raise NoServer(
            f"no Darkroom runs on the data folder {folder}: start one with `darkroom up`, "
            "or name a server with --url or DARKROOM_URL."
        )
    _require_url(chosen)
    named = [] if url is None else ["--url", url]
    named += [] if data_dir is None else ["--data-dir", str(data_dir)]
    token = token or (settings.token.get_secret_value() if settings.token else None)
    if token is None and own_url is not None and chosen.rstrip("/") == own_url.rstrip("/"):
        token = _read(folder / "admin.token")  # valid only for that server: no other one may see it
    if token is None:
        raise NoServer(f"the token for {chosen} is missing: give it with --token or DARKROOM_TOKEN.")
    if not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("the token has characters that no token of Darkroom has")
    blobs = (folder.absolute() / "blobs").as_uri() if data_dir and not settings.blobs_url else settings.blobs()
    local = Path(url2pathname(urlsplit(blobs).path)) if blobs.startswith("file://") else None
    return Server(chosen, token, local, tuple(named))


def finish(running: Coroutine[Any, Any, int]) -> None:
    """Run a client command to its end and exit with its status. Raises KeyboardInterrupt on Ctrl-C."""
    import asyncio  # noqa: PLC0415 - see `find_server`

    raise typer.Exit(asyncio.run(_unless_interrupted(running)))


async def _unless_interrupted(running: Coroutine[Any, Any, int]) -> int:
    """The command's status.

    Ctrl-C cancels it repeatedly until it has ended: connecting may swallow one cancellation.
    """
    import asyncio  # noqa: PLC0415 - see `find_server`

    task = asyncio.ensure_future(running)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not task.done():
            task.cancel()
            loop.call_later(CANCEL_AGAIN_S, interrupt)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _require_url(text: str) -> None:
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or not text.isprintable():
        raise typer.BadParameter(f"{text!r} is not the URL of a server; it looks like http://127.0.0.1:8700")


def _read(file: Path) -> str | None:
    """A line that `darkroom up` wrote; None if there is none."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NoServer(f"cannot read {file}: {reason}.") from error
