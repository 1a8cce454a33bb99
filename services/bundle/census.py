"""Checks the events of a bundle and the files that they name, when a bundle is written and when it is imported.

A bundle is complete: each stream from its beginning, each job with all its assets, everything that a job starts from,
and each file that its events name. The path of a file follows from ids and owners; a bundle cannot choose it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from domain.aggregates.asset import require_file_of
from domain.aggregates.media import EXTENSIONS, media_id, upload_path
from domain.bounds import EVENT_BYTES_MAX, NAME_CHARACTERS_MAX, require_bounds
from domain.envelope import Recorded
from domain.errors import InvalidInput
from domain.events import (
    AssetCanceled,
    AssetCompleted,
    AssetFailed,
    AssetPurged,
    AssetReserved,
    AssetThumbnailed,
    BatchItemAdded,
    BatchOpened,
    EnhancementMade,
    Event,
    JobAborted,
    JobCanceled,
    JobFailed,
    JobPartiallySucceeded,
    JobQueued,
    JobSucceeded,
    MediaDeleted,
    MediaUploaded,
    PromptSaved,
)
from domain.recipes.recipe import InputFile, Recipe, asset_id, asset_path
from services.bundle.layout import EMPTY, chained, checksum
from services.files.thumbnails import thumbnail_path
from services.ledger.commits import NewEvent

OPENINGS: Final[dict[str, type[Event]]] = {
    "job": JobQueued,
    "asset": AssetReserved,
    "media": MediaUploaded,
    "batch": BatchOpened,
    "prompt": PromptSaved,
    "enhancement": EnhancementMade,
}
"""The events that can open a stream, by the stream's kind."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
"""The form of an owner's name: it is a folder of the object store and a token of a subject."""

BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
ENDINGS: Final = frozenset(EXTENSIONS.values())
"""File name extensions of generated and uploaded files."""

ACTOR: Final = re.compile(rf"[^\x00-\x1f\x7f]{{1,{NAME_CHARACTERS_MAX}}}")

Role = Literal["asset", "thumbnail", "upload"]

NAMING: Final[dict[str, Role]] = {
    "asset.completed": "asset",
    "asset.thumbnailed": "thumbnail",
    "media.uploaded": "upload",
}
"""The events that name a file, and the file's role in their stream."""


class Unfit(Exception):
    """The events are not valid in a bundle. The message continues after their position."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the events name, and its role in a stream. `bytes` is its size."""

    role: Role
    stream_id: UUID
    path: str
    sha256: str
    bytes: int

    def __str__(self) -> str:
        return f"{'thumbnail of asset' if self.role == 'thumbnail' else self.role} {self.stream_id} at {self.path}"


@dataclass(frozen=True, slots=True)
class _Stream:
    """The `conversation` is the correlation id of its events."""

    kind: str
    version: int
    chain: bytes
    owner: str
    conversation: UUID


_NEW: Final = _Stream("", 0, EMPTY, "", UUID(int=0))


class Census:
    """Takes events in order. Memory: a few hundred bytes per stream and file, however many events there are."""

    def __init__(self) -> None:
        self.events = 0
        self.jobs = 0
        self.unfinished: set[UUID] = set()
        self.files: dict[tuple[Role, UUID], NamedFile] = {}
        self.deleted: set[str] = set()
        """Paths of files of deleted uploads and purged assets. Content that was uploaded again has another path."""
        self._streams: dict[UUID, _Stream] = {}
        self._owed: dict[UUID, AssetReserved] = {}
        self._inputs: dict[UUID, InputFile] = {}
        """What jobs may start from, as their recipes must describe it."""
        self._in_batches: list[tuple[UUID, UUID]] = []
        self._uploaded: dict[UUID, int] = {}
        self._outputs = 0
        self._reserved = 0
        self._jobs_of_batches: set[tuple[UUID, UUID]] = set()

    def take(self, recorded: Recorded, stored: NewEvent) -> None:
        """Add the next event, decoded and as it is stored. Raises `Unfit`."""
        kind = recorded.name.partition(".")[0]
        before = self._streams.get(stored.stream_id, _NEW)
        if stored.version != before.version + 1:
            raise Unfit(f"does not follow version {before.version} of its stream")
        if before is _NEW and type(recorded.event) is not OPENINGS.get(kind):
            raise Unfit("does not begin a stream")
        if before is not _NEW and kind != before.kind:
            raise Unfit(f"is on the stream of another kind, {before.kind}")
        _require_what_any_event_may_be(recorded, stored)
        owner = recorded.envelope.owner
        if getattr(recorded.event, "owner", owner) != owner or (before is not _NEW and owner != before.owner):
            raise Unfit("names two owners")
        conversation = _conversation(recorded) if before is _NEW else before.conversation
        chain = chained(before.chain, stored.version, stored.topic, stored.state)
        self._streams[stored.stream_id] = _Stream(kind, stored.version, chain, owner, conversation)
        self.events += 1
        self._follow(recorded)
        if recorded.envelope.correlation_id != conversation:
            raise Unfit(f"belongs to the conversation {conversation} and names another one")

    def finish(self) -> None:
        """Raises `Unfit` if something is missing."""
        if self._reserved != self._outputs:
            raise Unfit(f"they queue {self._outputs} outputs and reserve {self._reserved}")
        for batch_id, job_id in self._jobs_of_batches:
            if job_id not in self._streams:
                raise Unfit(f"job {job_id} of a batch is not among them")
            if not self._are_of_one_owner(batch_id, job_id):
                raise Unfit(f"job {job_id} of batch {batch_id} belongs to another owner")
        for job_id, batch_id in self._in_batches:
            if not self._are_of_one_owner(batch_id, job_id):
                raise Unfit(f"the batch of job {job_id} is not among them, or belongs to another owner")

    def streams(self) -> list[UUID]:
        """The ids of all streams, sorted."""
        return sorted(self._streams)

    def version_of(self, stream_id: UUID) -> int:
        """The number of events of a stream."""
        return self._streams[stream_id].version

    @property
    def without_thumbnail(self) -> int:
        """The number of completed assets without a thumbnail."""
        roles = [role for role, _ in self.files]
        return roles.count("asset") - roles.count("thumbnail")

    def checksum(self) -> str:
        """See `layout.checksum`."""
        ends = ((each, self._streams[each].version, self._streams[each].chain) for each in self.streams())
        return checksum(ends, (file.sha256 for file in self.files.values()))

    def _are_of_one_owner(self, *streams: UUID) -> bool:
        """False also for streams that do not exist."""
        owners = {self._streams.get(each, _NEW).owner for each in streams}
        return len(owners) == 1 and "" not in owners

    def _follow(self, recorded: Recorded) -> None:
        stream_id = recorded.stream_id
        match recorded.event:
            case JobQueued() as queued:
                self._queue(stream_id, queued)
            case JobSucceeded() | JobPartiallySucceeded() | JobFailed() | JobCanceled() | JobAborted():
                self.unfinished.discard(stream_id)
            case AssetReserved() as reserved:
                self._reserve(stream_id, reserved)
            case AssetCompleted() as completed:
                self._complete(stream_id, completed)
            case AssetFailed() | AssetCanceled():
                self._no_longer_owed(stream_id)
            case AssetThumbnailed(sha256=sha256, bytes=size, path=path):
                if ("asset", stream_id) not in self.files:
                    raise Unfit("shows an asset that has no file")
                _require_place(path, thumbnail_path(recorded.envelope.owner, stream_id))
                self._name("thumbnail", stream_id, path, sha256, size)
            case AssetPurged():
                self._purge(stream_id, recorded.envelope.owner)
            case MediaUploaded() as uploaded:
                self._upload(stream_id, uploaded)
            case MediaDeleted():
                self._inputs.pop(stream_id, None)
                if file := self.files.pop(("upload", stream_id), None):
                    self.deleted.add(file.path)
            case BatchOpened(base=base):
                self._require_sources([base] if base else [], recorded.envelope.owner)
            case BatchItemAdded(job_id=UUID() as job_id):
                self._jobs_of_batches.add((stream_id, job_id))
            case _:
                pass  # names no file

    def _queue(self, job_id: UUID, queued: JobQueued) -> None:
        self.jobs += 1
        self.unfinished.add(job_id)
        self._outputs += queued.recipe.quantity
        self._require_sources(sources_of(queued.recipe), queued.owner)
        for source, file in queued.recipe.files.items():
            _, identifier = read_source(source)
            known = self._inputs.get(identifier)
            if known is None or not file.is_file_of(known):
                raise Unfit(f"starts from another file than {source} is")
        if queued.batch_id is not None:
            self._in_batches.append((job_id, queued.batch_id))

    def _require_sources(self, sources: Iterable[str], owner: str) -> None:
        for source in sources:
            _, identifier = read_source(source)
            if identifier not in self._streams:
                raise Unfit(f"starts from {source}, which is not among them")
            if self._streams[identifier].owner != owner:
                raise Unfit(f"starts from {source}, which belongs to another owner")

    def _reserve(self, stream_id: UUID, reserved: AssetReserved) -> None:
        if reserved.job_id not in self._streams or stream_id != asset_id(reserved.job_id, reserved.index):
            raise Unfit("is of no job among them")
        if not self._are_of_one_owner(stream_id, reserved.job_id):
            raise Unfit("belongs to another owner than its job")
        extension = reserved.path.rpartition(".")[2]
        if BUCKET.fullmatch(reserved.bucket) is None or extension not in ENDINGS:
            raise Unfit("has a file outside the buckets")
        place = asset_path(reserved.bucket, reserved.owner, reserved.job_id, reserved.index, extension)
        _require_place(reserved.path, place)
        self._reserved += 1
        self._owed[stream_id] = reserved

    def _complete(self, stream_id: UUID, completed: AssetCompleted) -> None:
        reserved = self._no_longer_owed(stream_id)
        try:
            require_file_of(reserved, completed)
        except InvalidInput as refusal:
            raise Unfit(f"holds what no event may hold ({refusal})") from None
        self._inputs[stream_id] = InputFile(
            kind=reserved.kind.value,
            media_type=completed.media_type,
            sha256=completed.sha256,
            path=reserved.path,
        )
        self._name("asset", stream_id, reserved.path, completed.sha256, completed.bytes)

    def _purge(self, stream_id: UUID, owner: str) -> None:
        file = self.files.pop(("asset", stream_id), None)
        if file is None:
            raise Unfit("deletes an asset that has no file")
        self.files.pop(("thumbnail", stream_id), None)
        self.deleted |= {file.path, thumbnail_path(owner, stream_id)}

    def _no_longer_owed(self, stream_id: UUID) -> AssetReserved:
        try:
            return self._owed.pop(stream_id)
        except KeyError:
            raise Unfit("ends an asset for the second time") from None

    def _upload(self, stream_id: UUID, uploaded: MediaUploaded) -> None:
        if uploaded.media_type not in EXTENSIONS or stream_id != media_id(uploaded.owner, uploaded.sha256):
            raise Unfit("is no upload of its owner")
        times = self._uploaded[stream_id] = self._uploaded.get(stream_id, 0) + 1
        _require_place(uploaded.path, upload_path(uploaded.owner, uploaded.sha256, uploaded.media_type, times))
        self._inputs[stream_id] = InputFile(
            kind=uploaded.kind, media_type=uploaded.media_type, sha256=uploaded.sha256, path=uploaded.path
        )
        self._name("upload", stream_id, uploaded.path, uploaded.sha256, uploaded.bytes)

    def _name(self, role: Role, stream_id: UUID, path: str, sha256: str, size: int) -> None:
        if self.files.get((role, stream_id)) is not None:
            raise Unfit("names a file for the second time")
        self.files[role, stream_id] = NamedFile(role, stream_id, path, sha256, size)


def _require_what_any_event_may_be(recorded: Recorded, stored: NewEvent) -> None:
    """Check the bounds that every event of the ledger keeps, and an envelope as the ledger writes it."""
    if len(stored.state) > EVENT_BYTES_MAX:
        raise Unfit(f"has {len(stored.state)} bytes, more than the {EVENT_BYTES_MAX} that any event may have")
    try:
        require_bounds(recorded.event)
    except InvalidInput as refusal:
        raise Unfit(f"holds what no event may hold ({str(refusal)[:500]})") from None
    envelope = recorded.envelope
    if NAME.fullmatch(envelope.owner) is None:
        raise Unfit("belongs to nobody who can have a folder")
    if ACTOR.fullmatch(envelope.actor) is None:
        raise Unfit("was done by nobody who can have a name")
    if envelope.at.tzinfo is None:
        raise Unfit("happened at a time without its offset from UTC")


def _conversation(opening: Recorded) -> UUID:
    """The correlation id that all events of a stream share: an asset has that of its job."""
    return opening.event.job_id if isinstance(opening.event, AssetReserved) else opening.stream_id


def sources_of(recipe: Recipe) -> set[str]:
    """Everything that a job starts from, as `media:ID` and `asset:ID`."""
    return {*recipe.files, *recipe.media.values(), *(reference.source for reference in recipe.references)}


def read_source(source: str) -> tuple[str, UUID]:
    """Returns `media` or `asset`, and the id. Raises `Unfit`."""
    kind, _, identifier = source.lower().partition(":")
    try:
        if kind in {"media", "asset"}:
            return kind, UUID(identifier)
    except ValueError:
        pass
    raise Unfit(f"starts from {source!r}, which is neither an upload nor an asset")


def _require_place(path: str, place: str) -> None:
    if path != place:
        raise Unfit(f"has its file at {path!r}, and not at {place!r}")
