"""Writes a bundle: the events as they are stored, then each distinct file once; all or nothing."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, cast
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from psycopg import Connection
from psycopg.rows import TupleRow

from services.bundle.census import Census, NamedFile, Unfit
from services.bundle.contents import SQL, Contents, commits, decoded, everything, of_one
from services.bundle.errors import FileExists, FileLost, FileUnusable, LedgerUnfit
from services.bundle.layout import EVENTS, FILES, MANIFEST, SEAL_BYTES, EventLine, Manifest, line_of, seal
from services.database import Database
from services.files.blobs import BlobMissing, Blobs
from services.ledger.commits import NewEvent

COMPRESSION: Final = 3
"""Compression level of the events, 1 … 9: a sixth of the size, at three times the speed of the default."""

Told = Callable[[str, int, int], None]
"""Receives the progress: the step (`events checked`), the number done, and the total."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export: the job or batch `id`, or everything (None), including unfinished jobs if `unfinished`.

    `darkroom` is the exporting version, `now` the time of the export.
    """

    id: UUID | None
    darkroom: str
    now: datetime
    unfinished: bool = False


def export(database: Database, blobs: Blobs, asked: ExportRequest, file: Path, *, force: bool, told: Told) -> Manifest:
    """Write the bundle to `file`, completely or not at all. Replaces an existing file only with `force`.

    Reads one snapshot while the services keep running. Raises `BundleRefused`, `Unavailable` and
    `BlobStoreUnavailable`.
    """
    if file.exists() and not force:
        raise FileExists(f"{file} exists; name another file, or --force to replace it.")
    with _written(file) as opened:
        with ZipFile(opened, "w", ZIP_DEFLATED, compresslevel=COMPRESSION) as zipped:
            with _snapshot(database) as connection:
                contents = (
                    of_one(connection, asked.id) if asked.id else everything(connection, unfinished=asked.unfinished)
                )
                census, commit = _write_events(connection, contents, zipped, told)
            files = _write_files(blobs, list(census.files.values()), zipped, told)
            manifest = Manifest(
                darkroom=asked.darkroom,
                created_at=asked.now,
                what=contents.what,
                id=contents.id,
                events=census.events,
                commits=commit,
                streams=len(census.streams()),
                jobs=census.jobs,
                unfinished=len(census.unfinished),
                without_thumbnail=census.without_thumbnail,
                files=len(files),
                bytes=sum(files.values()),
                left_out=contents.left_out,
                checksum=census.checksum(),
            )
            zipped.writestr(MANIFEST, manifest.model_dump_json(indent=2))
            zipped.comment = bytes(SEAL_BYTES)
        seal(opened)
    return manifest


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection[TupleRow]]:
    """One state of the ledger for all queries. Raises `LedgerUnfit` for invalid events."""
    with database.transaction() as connection:
        connection.execute(SQL["snapshot"])
        try:
            yield connection
        except Unfit as reason:
            raise LedgerUnfit(f"The events make no whole bundle: {reason}. Run `darkroom verify`.") from None


@contextmanager
def _written(file: Path) -> Iterator[BinaryIO]:
    """A temporary file next to `file`: it replaces `file` if the block succeeds, and is deleted otherwise. Mode 0600.

    Raises `FileUnusable` for errors of the operating system.
    """
    part = None
    try:
        descriptor, part = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".part", dir=file.parent)
        with os.fdopen(descriptor, "w+b") as opened:
            yield cast("BinaryIO", opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(part, file)
    except OSError as error:
        raise FileUnusable(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _write_events(
    connection: Connection[TupleRow], contents: Contents, zipped: ZipFile, told: Told
) -> tuple[Census, int]:
    """Returns what was written, and the number of commits."""
    census = Census()
    commit = 0
    count = contents.count(connection)
    with zipped.open(EVENTS, "w", force_zip64=True) as lines:
        for begins, position, stored in _by_commit(contents.events(connection), commits(connection)):
            try:
                census.take(decoded(position, stored), stored)
            except Unfit as reason:
                raise LedgerUnfit(
                    f"The event at position {position} {reason}, so there is no bundle of it. Run `darkroom verify`."
                ) from None
            commit += begins
            lines.write(line_of(EventLine(commit, stored)))
            told("events written", census.events, count)
    census.finish()
    return census, commit


def _by_commit(
    events: Iterable[tuple[int, NewEvent]], spans: Iterator[tuple[int, int]]
) -> Iterator[tuple[bool, int, NewEvent]]:
    """The events with their positions; true for the first event of each commit.

    The ledger itself records which events were committed together: they may have different command ids.
    """
    last = 0
    for position, stored in events:
        begins = position > last
        while last < position:
            _, last = next(spans, (position, position))
        yield begins, position, stored


def _write_files(blobs: Blobs, files: list[NamedFile], zipped: ZipFile, told: Told) -> dict[str, int]:
    """Returns sizes by hash. The same content is written once. Raises `FileLost`."""
    written: dict[str, int] = {}
    for number, file in enumerate(files, start=1):
        if file.sha256 not in written:
            content = _content_of(blobs, file)
            zipped.writestr(ZipInfo(FILES + file.sha256), content, ZIP_STORED)
            written[file.sha256] = len(content)
        told("files written", number, len(files))
    return written


def _content_of(blobs: Blobs, file: NamedFile) -> bytes:
    try:
        content = blobs.get(file.path)
    except BlobMissing:
        raise FileLost(f"The file of {file} is missing from the object store; nothing was exported.") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise FileLost(
            f"The file of {file} is damaged: its content is not the one in the ledger; nothing was exported."
        )
    return content
