"""Opens an untrusted bundle: every name, size and hash in it is checked."""

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import orjson
from pydantic import ValidationError

from domain.codec import CURRENT, UPCASTERS
from domain.envelope import Recorded, Unreadable
from domain.validation_words import words_for
from services.bundle.census import Census, Unfit
from services.bundle.contents import MAPPER
from services.bundle.errors import BundleDamaged, BundleTooNew, FileUnusable
from services.bundle.export import Told
from services.bundle.layout import (
    CHUNK_BYTES,
    EVENTS,
    FILES,
    FORMAT,
    LINE_BYTES_MAX,
    MANIFEST,
    VERSION,
    EventLine,
    Manifest,
    read_line,
    require_seal,
)

MANIFEST_BYTES_MAX: Final = 64 * 1024

COMMIT_EVENTS_MAX: Final = 100_000
"""Maximum events of a commit. Darkroom's largest is a batch of 1,000 items with six outputs each: about 8,000."""

COMMIT_BYTES_MAX: Final = 64 * 1024**2
"""Maximum bytes of a commit's events, all held in memory: eight times the body of the largest batch."""

ENCRYPTED: Final = 0x1
"""The flag bit of an encrypted ZIP entry."""

FILE_NAME: Final = re.compile(rf"{FILES}[0-9a-f]{{64}}", re.ASCII)

UNREADABLE: Final = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""Exceptions of zipfile for an archive that it cannot read."""


class Bundle:
    """A bundle with an intact seal. Call `examine` before reading its contents."""

    def __init__(self, zipped: ZipFile) -> None:
        self._zipped = zipped
        self._entries = _entries_of(zipped)
        self.manifest = _manifest_of(zipped, self._entries)

    @property
    def files(self) -> dict[str, int]:
        """Sizes by hash, according to the archive."""
        names = (name for name in self._entries if name.startswith(FILES))
        return {name.removeprefix(FILES): self._entries[name].file_size for name in names}

    def lines(self) -> Iterator[EventLine]:
        """The events in order, by commits counted from 1."""
        commit, events, size = 0, 0, 0
        for number, text in enumerate(self._texts(), start=1):
            if number > self.manifest.events:
                raise BundleDamaged(f"The bundle holds more than the {self.manifest.events} events of its manifest.")
            line = read_line(text, number)
            if line.commit not in {commit, commit + 1}:
                raise BundleDamaged(f"Line {number} of {EVENTS} in the bundle does not count its commit on.")
            if line.commit != commit:
                commit, events, size = line.commit, 0, 0
            events, size = events + 1, size + len(line.event.state)
            if events > COMMIT_EVENTS_MAX:
                raise BundleDamaged(f"The bundle holds a commit of more than {COMMIT_EVENTS_MAX} events.")
            if size > COMMIT_BYTES_MAX:
                raise BundleDamaged(f"The bundle holds a commit of more than {COMMIT_BYTES_MAX} bytes.")
            yield line

    def _texts(self) -> Iterator[bytes]:
        with _readable(EVENTS), self._zipped.open(EVENTS) as packed:
            unpacked = io.BufferedReader(cast("io.RawIOBase", packed), CHUNK_BYTES)
            yield from iter(lambda: unpacked.readline(LINE_BYTES_MAX), b"")

    def content(self, sha256: str) -> bytes:
        """The content of a file; its size is that in `files`."""
        with _readable(FILES + sha256):
            return self._zipped.read(FILES + sha256)

    def examine(self, told: Told) -> Census:
        """Read and check everything. Raises `BundleDamaged` and `BundleTooNew`; then nothing in it may be used."""
        census = Census()
        commits = 0
        for number, line in enumerate(self.lines(), start=1):
            try:
                census.take(self._decoded(number, line), line.event)
            except Unfit as reason:
                raise BundleDamaged(f"The event in line {number} of the bundle {reason}.") from None
            commits = line.commit
            told("events checked", number, self.manifest.events)
        try:
            census.finish()
        except Unfit as reason:
            raise BundleDamaged(f"The events of the bundle are not whole: {reason}.") from None
        self._require_files(census, told)
        self._require_manifest(census, commits)
        return census

    def _decoded(self, number: int, line: EventLine) -> Recorded:
        event = line.event
        recorded = MAPPER.read(number, event.stream_id, event.version, event.topic, event.state)
        if isinstance(recorded, Recorded):
            return recorded
        if recorded.topic not in CURRENT and recorded.topic not in UPCASTERS:
            raise too_new(f"its line {number} holds an event {recorded.topic[:100]!r}", self.manifest.darkroom)
        raise BundleDamaged(f"The event in line {number} of the bundle cannot be read: {_one_line(recorded)}.")

    def _require_files(self, census: Census, told: Told) -> None:
        there = self.files
        for file in census.files.values():
            if there.get(file.sha256) != file.bytes:
                raise BundleDamaged(f"The file of {file} is not in the bundle, or not of {file.bytes} bytes.")
        if beyond := there.keys() - {file.sha256 for file in census.files.values()}:
            raise BundleDamaged(f"The bundle holds a file that no event names: {min(beyond)}.")
        for number, sha256 in enumerate(there, start=1):
            digest = hashlib.sha256()
            with _readable(FILES + sha256), self._zipped.open(FILES + sha256) as opened:
                while chunk := opened.read(CHUNK_BYTES):
                    digest.update(chunk)
            if digest.hexdigest() != sha256:
                raise BundleDamaged(f"The file {sha256} in the bundle has another content than its name says.")
            told("files checked", number, len(there))

    def _require_manifest(self, census: Census, commits: int) -> None:
        said = self.manifest
        counted = {
            "events": census.events,
            "commits": commits,
            "streams": len(census.streams()),
            "jobs": census.jobs,
            "unfinished": len(census.unfinished),
            "without_thumbnail": census.without_thumbnail,
            "files": len(self.files),
        }
        for name, count in counted.items():
            if getattr(said, name) != count:
                raise BundleDamaged(f"The bundle's {name} count {count}, and its manifest says otherwise.")
        if said.bytes != sum(self.files.values()) or said.checksum != census.checksum():
            raise BundleDamaged("The bundle does not have the checksum that its manifest says.")


@contextmanager
def opened(file: Path) -> Iterator[Bundle]:
    """The bundle, with its seal checked. Raises `BundleDamaged`, `BundleTooNew` and `FileUnusable`."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise FileUnusable(f"{file} cannot be read: {error.strerror}.") from error
    with stream:
        try:
            require_seal(stream)
        except OSError as error:
            raise FileUnusable(f"{file} cannot be read: {error.strerror}.") from error
        with _readable(str(file)):
            zipped = ZipFile(stream)
        with zipped:
            yield Bundle(zipped)


def too_new(evidence: str, darkroom: object) -> BundleTooNew:
    """The error, with the version that can read the bundle."""
    return BundleTooNew(f"Darkroom {darkroom} wrote this bundle, and {evidence} that this version does not know: "
                        f"import it with Darkroom {darkroom} or later.")  # fmt: skip


def _entries_of(zipped: ZipFile) -> dict[str, ZipInfo]:
    """The entries by name: only those of a bundle, each once; files are not compressed."""
    entries: dict[str, ZipInfo] = {}
    for entry in zipped.infolist():
        name = entry.filename
        if name in entries or (name not in {MANIFEST, EVENTS} and FILE_NAME.fullmatch(name) is None):
            raise BundleDamaged(f"The bundle holds {name[:100]!r}, which has no place in one.")
        if entry.flag_bits & ENCRYPTED or entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
            raise BundleDamaged(f"The bundle holds {name!r} in a form that is not read.")
        if name.startswith(FILES) and (entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size):
            raise BundleDamaged(f"The bundle holds {name!r} packed; files are stored as they are.")
        entries[name] = entry
    for name in (MANIFEST, EVENTS):
        if name not in entries:
            raise BundleDamaged(f"The file is not a bundle of Darkroom: it has no {name}.")
    return entries


def _manifest_of(zipped: ZipFile, entries: dict[str, ZipInfo]) -> Manifest:
    if entries[MANIFEST].file_size > MANIFEST_BYTES_MAX:
        raise BundleDamaged(f"The {MANIFEST} of the bundle is larger than {MANIFEST_BYTES_MAX} bytes.")
    try:
        with _readable(MANIFEST):
            said = orjson.loads(zipped.read(MANIFEST))
        if isinstance(said, dict) and said.get("format") == FORMAT and said.get("version") != VERSION:
            raise too_new(f"has a format, {said.get('version')!r},", said.get("darkroom"))
        return Manifest.model_validate(said)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BundleDamaged(f"The {MANIFEST} of the bundle is not valid: {where}: {words_for(problem)}.") from None


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn zipfile's exceptions into `BundleDamaged`."""
    try:
        yield
    except OSError as error:
        raise FileUnusable(f"The bundle cannot be read: {error.strerror or error}.") from error
    except UNREADABLE as error:
        raise BundleDamaged(f"{what} in the bundle cannot be read: {error}.") from None


def _one_line(unreadable: Unreadable) -> str:
    return unreadable.reason.splitlines()[0][:200].rstrip(".")
