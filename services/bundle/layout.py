"""The format of a bundle: a ZIP of `manifest.json`, `events.jsonl` and `files/<sha256>`, sealed with a hash.

The archive's comment is the seal: `sha256:` and the hash of all bytes before it. ZIP's own checksums do not cover its
headers; the seal detects a changed byte anywhere.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, BinaryIO, Final, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from domain.bounds import EVENT_BYTES_MAX
from domain.events import Sha256
from services.bundle.errors import BundleDamaged
from services.ledger.commits import NewEvent

FORMAT: Final = "darkroom-bundle"
VERSION: Final = 1

MANIFEST: Final = "manifest.json"
EVENTS: Final = "events.jsonl"
FILES: Final = "files/"

SEAL: Final = b"sha256:"
SEAL_BYTES: Final = len(SEAL) + 64

LINE_BYTES_MAX: Final = 6 * EVENT_BYTES_MAX + 1_024
"""Maximum bytes of a line with one event: JSON may escape one character with six bytes."""

CHUNK_BYTES: Final = 1024**2

Count = Annotated[int, Field(ge=0)]


class LeftOut(BaseModel):
    """What was left out because of jobs that had not ended."""

    model_config = ConfigDict(frozen=True)

    jobs: Count = 0
    batches: Count = 0


class Manifest(BaseModel):
    """A bundle's description of itself. `id` is that of the job or batch; `bytes` is the total size of its files.

    `unfinished` counts the jobs that will continue in the importing installation, `without_thumbnail` the completed
    assets that get a thumbnail there. `darkroom` is the exporting version.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["darkroom-bundle"] = FORMAT
    version: int = VERSION
    darkroom: str
    created_at: datetime
    what: Literal["job", "batch", "all"]
    id: UUID | None
    events: Count
    commits: Count
    streams: Count
    jobs: Count
    unfinished: Count
    without_thumbnail: Count
    files: Count
    bytes: Count
    left_out: LeftOut
    checksum: Sha256


class _Fields(TypedDict):
    commit: Annotated[int, Field(ge=1)]
    stream: UUID
    version: Annotated[int, Field(ge=1)]
    topic: str
    state: str


LINE: Final = TypeAdapter(_Fields)


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event of a bundle. Events with the same `commit`, counted from 1, are committed together again."""

    commit: int
    event: NewEvent


def line_of(line: EventLine) -> bytes:
    """A line of `events.jsonl`. Raises `UnicodeDecodeError` if the state is not text."""
    event = line.event
    fields = {
        "commit": line.commit,
        "stream": event.stream_id,
        "version": event.version,
        "topic": event.topic,
        "state": event.state.decode(),  # a string, not an object: its bytes must not change
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def read_line(text: bytes, number: int) -> EventLine:
    """The event of a line; `number` counts from 1. Raises `BundleDamaged`."""
    try:
        line = LINE.validate_json(text)
    except ValueError:
        raise BundleDamaged(f"Line {number} of {EVENTS} in the bundle is no event.") from None
    return EventLine(line["commit"], NewEvent(line["stream"], line["version"], line["topic"], line["state"].encode()))


EMPTY: Final = bytes(32)


def chained(before: bytes, version: int, topic: str, state: bytes) -> bytes:
    """The chained hash of a stream after this event; `before` is `EMPTY` for its first."""
    parts = (
        before,
        version.to_bytes(8, "big"),
        hashlib.sha256(topic.encode()).digest(),
        hashlib.sha256(state).digest(),
    )
    return hashlib.sha256(b"".join(parts)).digest()


def checksum(streams: Iterable[tuple[UUID, int, bytes]], files: Iterable[str]) -> str:
    """SHA-256, in hex, over the streams (id, version, `chained` hash), then over the files' hashes; both sorted.

    Streams are sorted by id, not by position: a ledger that had some of them before has them in another order.
    """
    digest = hashlib.sha256()
    for stream_id, version, chain in streams:
        digest.update(stream_id.bytes + version.to_bytes(8, "big") + chain)
    for sha256 in sorted(set(files)):
        digest.update(bytes.fromhex(sha256))
    return digest.hexdigest()


def seal(file: BinaryIO) -> None:
    """Replace the comment at the end, `SEAL_BYTES` long, by the hash of all bytes before it."""
    end = file.seek(0, os.SEEK_END) - SEAL_BYTES
    digest = _hash_of(file, end)
    file.seek(end)
    file.write(SEAL + digest)


def require_seal(file: BinaryIO) -> None:
    """Raises `BundleDamaged` if any byte changed since the bundle was sealed."""
    end = file.seek(0, os.SEEK_END) - SEAL_BYTES
    file.seek(max(0, end))
    found = file.read(SEAL_BYTES)
    if end < 0 or not found.startswith(SEAL):
        raise BundleDamaged("The file is not a bundle of Darkroom, or it was cut off on the way: copy it again.")
    if _hash_of(file, end) != found[len(SEAL) :]:
        raise BundleDamaged("The bundle is damaged: it is not as it was written. Copy it again.")


def _hash_of(file: BinaryIO, end: int) -> bytes:
    """The hash of the bytes up to `end`, in hex."""
    digest = hashlib.sha256()
    file.seek(0)
    while left := end - file.tell():
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            break
        digest.update(chunk)
    return digest.hexdigest().encode()
