"""`darkroom show FILE`: find the job of a file, and check whether the file still shows the same picture."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from uuid import UUID

import typer

from api.cli.commands.reading import lines_of
from api.cli.remote.failures import ClientError, NotThere
from api.cli.remote.server import Server
from api.cli.tables import local_time
from api.cli.terminal import complain, printable
from domain.json_type import Json
from services.files.decoders.bounded import DecodingUnavailable, probe, read_origin
from services.files.media.kinds import UnreadableMedia

OF_THE_CONTAINER = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata of every MP4, independent of the program that wrote it."""

Pixels = Literal["unchanged", "changed", "unknown"]


class NoOrigin(Exception):
    """The file does not contain its job's id."""

    code = "no_origin"


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file, its origin metadata, and its hashes."""

    file: Path
    origin: dict[str, str]
    job_id: UUID
    asset_id: UUID
    sha256: str
    pixels_sha256: str | None

    @classmethod
    def read(cls, file: Path) -> Self:
        """Decode it. Raises `NoOrigin`."""
        try:
            content = file.read_bytes()
            origin = {name: text for name, text in read_origin(content).items() if name not in OF_THE_CONTAINER}
            job_id, asset_id = UUID(origin["Job"]), UUID(origin["Asset"])
            pixels_sha256 = probe(content).pixels_sha256
        except OSError as error:
            raise NoOrigin(f"{file} cannot be read: {error.strerror}.") from None
        except (UnreadableMedia, DecodingUnavailable) as error:
            raise NoOrigin(f"{file} is no picture or video of Darkroom. {error}") from None
        except (KeyError, ValueError):
            raise NoOrigin(
                f"{file} does not say which job it is of: Darkroom did not make it, or a program that wrote it again "
                "left that out."
            ) from None
        return cls(file, origin, job_id, asset_id, hashlib.sha256(content).hexdigest(), pixels_sha256)


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """The ledger's facts about a file: its job, and the asset.completed of its asset.

    `problem` explains missing ones.
    """

    job: Json | None = None
    completed: Json | None = None
    lines: tuple[str, ...] = ()
    problem: str | None = None

    def pixels_of(self, given: GivenFile) -> Pixels:
        """Whether the file shows what was rendered."""
        known = self.completed["data"].get("pixels_sha256") if self.completed else None
        if known is None or given.pixels_sha256 is None:
            return "unknown"
        return "unchanged" if given.pixels_sha256 == known else "changed"


async def show_file(file: Path, find_server: Callable[[], Server], *, as_json: bool) -> int:
    """Print a file's origin and the ledger's facts about it.

    The exit status is 0 if the ledger has the file's asset with exactly these pixels, and 1 otherwise.
    """
    given = GivenFile.read(file)
    finding = await find(given, find_server)
    pixels = finding.pixels_of(given)
    if as_json:
        document = {
            "file": str(file),
            "sha256": given.sha256,
            "pixels_sha256": given.pixels_sha256,
            "origin": given.origin,
            "pixels": pixels,
            "completed": finding.completed,
            "job": finding.job,
            "problem": finding.problem,
        }
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(file_lines(given, finding, pixels)))
    if finding.problem:
        complain(f"{finding.problem} The above is what the file itself says.")
    return 0 if pixels == "unchanged" else 1


async def find(given: GivenFile, find_server: Callable[[], Server]) -> FileOrigin:
    """Ask the server for the file's job."""
    try:
        server = find_server()
        async with server.client() as client:
            job = await client.job(str(given.job_id))
            events = await client.history(str(given.job_id))
    except NotThere:
        return FileOrigin(problem=f"{server.url} knows no job {given.job_id}, or none of yours.")
    except ClientError as error:
        return FileOrigin(problem=str(error))
    completed = next(
        (one for one in events if one["type"] == "asset.completed" and one["stream"] == str(given.asset_id)), None
    )
    lines = tuple(lines_of(server, client, job, events))
    problem = None if completed else f"the job {given.job_id} has no file of an asset {given.asset_id}."
    return FileOrigin(job, completed, lines, problem)


def file_lines(given: GivenFile, finding: FileOrigin, pixels: Pixels) -> list[str]:
    """For people: the file, its pixels, and its job; the file's own metadata if the job is not available."""
    lines = [f"file      {printable(given.file)}", f"asset     {given.asset_id}"]
    match pixels:
        case "unchanged":
            at = local_time(finding.completed["at"]) if finding.completed else ""
            same = finding.completed is not None and finding.completed["data"]["sha256"] == given.sha256
            whole = "the very file" if same else "in a file that was written again"
            lines.append(f"pixels    unchanged since {at}, {whole}")
        case "changed":
            lines.append("pixels    CHANGED: they do not have the hash that the ledger has of this asset")
        case _:
            lines.append("pixels    unknown whether they are unchanged")
    if finding.lines:
        return [*lines, *finding.lines]
    return [*lines, *(f"  {printable(name)}: {printable(text)}" for name, text in given.origin.items())]
