"""`darkroom export` and `darkroom import`: directly on the database and the object store. Each returns its status."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import typer

from api.cli.local.operate import NoDatabase, find_dsn, find_dsn_to_write
from api.cli.terminal import complain
from services.bundle.export import ExportRequest, export
from services.bundle.intake import take_in
from services.bundle.layout import Manifest
from services.database import Database
from services.files.blobs import Blobs
from services.settings import Settings

TELL_S: Final = 1.0
"""Seconds between two lines of progress; shorter work has none."""


def export_to(
    what: str | None, file: Path, data_dir: Path | None, *, unfinished: bool, force: bool, as_json: bool
) -> int:
    """Write the bundle of a job, a batch, or (None) of everything."""
    asked = ExportRequest(None if what is None else _id_of(what), version("darkroom"), datetime.now(UTC), unfinished)
    with _opened(data_dir) as (database, blobs):
        made = export(database, blobs, asked, file, force=force, told=_Teller(silent=as_json))
    if as_json:
        typer.echo(json.dumps({"file": str(file), **made.model_dump(mode="json")}))
        return 0
    typer.echo(f"exported {_named(made)} to {file}: {_counted(made)}; checksum {made.checksum}")
    for line in _cautions_of_export(made):
        complain(line)
    return 0


def import_from(file: Path, data_dir: Path | None, *, as_json: bool) -> int:
    """Import a bundle; existing streams and files stay unchanged."""
    find_dsn_to_write(data_dir)
    with _opened(data_dir) as (database, blobs):
        done = take_in(database, blobs, file, told=_Teller(silent=as_json))
    made = done.manifest
    if as_json:
        found: dict[str, Any] = {
            "file": str(file),
            "appended": done.appended,
            "files_written": done.files_written,
            "checksum": done.checksum,
            "position": done.position,
            "manifest": made.model_dump(mode="json"),
        }
        typer.echo(json.dumps(found))
        return 0
    counted = f"{_counted(made)}; checksum {done.checksum}; head at position {done.position:,}"
    if not done.appended:
        typer.echo(f"already here, nothing changed: {_named(made)}, {counted}")
        return 0
    had = made.events - done.appended
    typer.echo(f"imported {_named(made)}: {counted}" + (f"; {had:,} of the events were here already" if had else ""))
    if made.unfinished:
        complain(f"{_many(made.unfinished, 'job')} had not ended: here they go on, there they must not run any more.")
    return 0


@contextmanager
def _opened(data_dir: Path | None) -> Iterator[tuple[Database, Blobs]]:
    """Explains the error if the schema is not Darkroom's."""
    dsn = find_dsn(data_dir)
    settings = Settings.from_environment().model_copy(update={"data_dir": data_dir} if data_dir else {})
    with Database(dsn, size_max=2) as database:
        try:
            yield database, Blobs(settings.blobs())
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
            raise NoDatabase("the database lacks tables of Darkroom; run `darkroom migrate` first.") from error


class _Teller:
    """Prints progress to stderr from time to time."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._next = time.monotonic() + TELL_S

    def __call__(self, what: str, number: int, count: int) -> None:
        if not self._silent and time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_S
            complain(f"{number:,} of {count:,} {what}")


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not the id of a job or a batch; everything is exported by --all"
        ) from None


def _named(made: Manifest) -> str:
    return "everything" if made.id is None else f"{made.what} {made.id}"


def _counted(made: Manifest) -> str:
    files = f"{_many(made.files, 'file')} of {_many(made.bytes, 'byte')}"
    return f"{_many(made.events, 'event')}, {_many(made.jobs, 'job')}, {files}"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}{'es' if word.endswith('ch') else 's'}"


def _cautions_of_export(made: Manifest) -> Iterator[str]:
    left = made.left_out
    if left.jobs:
        yield (
            f"left out {_many(left.jobs, 'job')} and {_many(left.batches, 'batch')}: what has not ended and what hangs "
            "together with it. Export again once it has, or take it along with --unfinished."
        )
    if made.without_thumbnail:
        yield (
            f"{_many(made.without_thumbnail, 'asset')} had no thumbnail yet. Each gets one of its own where the bundle "
            "is imported, and later bundles of its job would not fit there: better export again in a moment."
        )
    if made.unfinished:
        yield (
            f"{_many(made.unfinished, 'job')} had not ended, to go on where the bundle is imported: "
            "stop this Darkroom for good, or they run twice."
        )
