"""Files of assets and files to start from: their places, uploads and downloads."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.names import source_named
from api.cli.remote.failures import ClientError
from api.cli.tables import error_text
from api.cli.terminal import printable
from domain.json_type import Json

if TYPE_CHECKING:
    from api.cli.remote.client import Client
    from api.cli.remote.server import Server

Place = Callable[[Json], str]
"""Says where the file of an asset is."""

NO_FILE = {"reserved": "not made yet", "failed": "failed", "canceled": "canceled", "purged": "deleted for good"}
"""Why an asset has no file, by its status."""

STRENGTH = 0.7
"""Default strength of a reference."""


class FileThere(ClientError):
    """A different file already has the download's name."""

    code = "file_there"


class NoFolder(ClientError):
    """The folder for the downloads cannot be created."""

    code = "no_folder"


def references_of(given: Sequence[str]) -> list[Json]:
    """`style=photo.png@0.7` as a reference; the default strength is 0.7.

    An existing file named `photo@0.5` is taken as a file without a strength. Raises `typer.BadParameter`.
    """
    return [_reference(each) for each in given]


def _reference(text: str) -> Json:
    kind, equals, rest = text.partition("=")
    source, strength = _with_strength(rest)
    if not equals or not kind or not source:
        raise typer.BadParameter(f"--reference {text!r} is not TYPE=FILE[@STRENGTH], as in style=photo.png@0.7")
    return {"type": kind, "source": source_named(source), "strength": strength}


def _with_strength(text: str) -> tuple[str, float]:
    """The source and its strength: the number after the last @, unless it is part of a file's name."""
    source, at, said = text.rpartition("@")
    if not at or os.path.isfile(text):
        return text, STRENGTH
    try:
        strength = float(said)
    except ValueError:
        return text, STRENGTH
    return (source, strength) if math.isfinite(strength) else (text, STRENGTH)


async def with_uploads(client: Client, body: Json, folder: Path | None = None) -> Json:
    """The submission with its local files uploaded. `folder`: the base of their names; by default the current one.

    What has not the shape of a submission stays as it is: the server says what is wrong with it.
    """
    match body:
        case {"references": list() as given}:
            references = [
                each | {"source": await _uploaded(client, each["source"], folder)}
                if isinstance(each, dict) and "source" in each
                else each
                for each in given
            ]
            body = body | {"references": references}
    match body:
        case {"media": dict() as named}:
            media = {name: await _uploaded(client, source, folder) for name, source in named.items()}
            body = body | {"media": media}
    return body


async def _uploaded(client: Client, source: object, folder: Path | None) -> object:
    if not isinstance(source, str):
        return source
    if source.startswith(("media:", "asset:")):
        return source_named(source)
    media = await client.upload(Path(source) if folder is None else folder / source)
    return f"media:{media['id']}"


def places(server: Server, client: Client, events: Sequence[Json]) -> Place:
    """Says where a job's files are: their paths on this machine, else their URLs. `events` are its history."""
    paths = {event["data"]["index"]: event["data"]["path"] for event in events if event["type"] == "asset.reserved"}

    def place(asset: Json) -> str:
        if server.blobs is not None and asset["index"] in paths:
            file = server.blobs / paths[asset["index"]]
            if file.is_file():
                return str(file)
        return client.absolute(asset["url"])

    return place


def outcome(asset: Json, place: Place) -> str:
    """The place of an asset's file, or the asset's outcome."""
    match asset["status"]:
        case "completed":
            return printable(place(asset))
        case "failed":
            return f"failed: {error_text(asset.get('error'))}"
        case status:
            return str(status)


def without_file(assets: Sequence[Json]) -> list[str]:
    """A sentence for each job and status of those without a file, with their indexes."""
    found: dict[tuple[str, str], list[str]] = {}
    for asset in assets:
        if asset["status"] != "completed":
            found.setdefault((asset["job_id"], asset["status"]), []).append(str(asset["index"]))
    return [
        f"Job {job_id} has no file of output {', '.join(indexes)}: {NO_FILE[status]}."
        for (job_id, status), indexes in found.items()
    ]


def make_folder(folder: Path) -> None:
    """Create the folder for downloads. Raises `NoFolder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoFolder(f"cannot make the folder {folder}: {error.strerror}.") from error


async def download(client: Client, assets: Sequence[Json], folder: Path, *, force: bool) -> list[Path]:
    """Download the completed ones of `assets`; returns their paths. A correct existing file stays.

    Raises `FileThere` before anything is downloaded, unless `force` replaces other files, and the client's errors.
    """
    wanted = [(asset, folder / file_name(asset)) for asset in assets if asset["status"] == "completed"]
    missing = [(asset, file) for asset, file in wanted if not _is_there(asset, file, force=force)]
    for asset, file in missing:
        await client.download(asset, file)
    return [file for _, file in wanted]


def file_name(asset: Json) -> str:
    """The file name of a download."""
    ending = asset["media_type"].rpartition("/")[2]
    return f"{asset['job_id']}_{asset['index']}.{ending if ending.isalnum() else 'bin'}"


def _is_there(asset: Json, file: Path, *, force: bool) -> bool:
    if not file.exists():
        return False
    if file.is_file():
        with file.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() == asset["sha256"]:
                return True
        if force:
            return False
    raise FileThere(f"{file} is there already, with other content. Replace it with --force, or name another folder.")
