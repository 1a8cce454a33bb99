"""A file that its owner brought: an image, video or sound for jobs to start from."""

from dataclasses import dataclass
from typing import Final, assert_never
from uuid import UUID, uuid5

from domain.commands import MediaCommand, UploadMedia
from domain.events import MediaEvent, MediaUploaded

OWNERS: Final = UUID("5f1c7a92-3d0e-4b6a-8a44-27c9d1e06b53")
"""Namespace of the owners, whose namespaces hold what they uploaded. Never changes, and is not that of the jobs, where
an Idempotency-Key may well be the hash of a file."""

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "audio/mp4": "m4a",
    "audio/webm": "weba",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
}
"""The ending of a stored file, by media type."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing was ever uploaded under this id."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The file exists."""

    uploaded: MediaUploaded


Media = Unknown | Uploaded


def decide(command: MediaCommand, media: Media) -> list[MediaEvent]:
    """An upload is accepted once: the id follows from owner and content, so the same file again returns nothing."""
    match media:
        case Unknown():
            return [_uploaded(command)]
        case Uploaded():
            return []
        case _:
            assert_never(media)


def evolve(_: Media, event: MediaEvent) -> Media:
    """Fold one fact. Total, and without rules: history has already happened."""
    return Uploaded(event)


def owner_of(media: Media) -> str | None:
    """Whom it belongs to; None for an id under which nothing was uploaded."""
    return None if isinstance(media, Unknown) else media.uploaded.owner


def media_id(owner: str, sha256: str) -> UUID:
    """The id of an owner's upload: the same content has the same id, and another one for another owner."""
    return uuid5(uuid5(OWNERS, owner), sha256)


def upload_path(owner: str, sha256: str, media_type: str) -> str:
    """Where an uploaded file lives in the object store. `media_type` is one of `EXTENSIONS`."""
    return f"uploads/{owner}/{sha256}.{EXTENSIONS[media_type]}"


def _uploaded(command: UploadMedia) -> MediaUploaded:
    return MediaUploaded(
        owner=command.owner,
        kind=command.kind,
        media_type=command.media_type,
        bytes=command.bytes,
        sha256=command.sha256,
        width=command.width,
        height=command.height,
        frames=command.frames,
        fps=command.fps,
        duration_s=command.duration_s,
        path=upload_path(command.owner, command.sha256, command.media_type),
    )
