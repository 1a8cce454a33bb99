"""An uploaded file: an image, video or sound that jobs start from."""

from dataclasses import dataclass
from typing import Final, assert_never
from uuid import UUID

from domain.commands import DeleteMedia, MediaCommand, UploadMedia, UseMedia
from domain.errors import MediaInUse, MediaMoved, NotFound
from domain.events import MediaDeleted, MediaEvent, MediaUploaded, MediaUsed
from domain.owned_ids import owned_id

OWNERS: Final = UUID("5f1c7a92-3d0e-4b6a-8a44-27c9d1e06b53")
"""UUID namespace for uploads, one sub-namespace per owner. It never changes, and it differs from the one for jobs,
where an Idempotency-Key may be the hash of a file."""

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/avif": "avif",
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
"""The file extension of a stored file, by media type."""


def kind_of(media_type: str) -> str:
    """The kind of files of this type: `image`, `video` or `audio`."""
    return media_type.partition("/")[0]


def unfit_type(media_type: str, kind: str) -> str:
    """The error message for a media type that is not of the required kind."""
    return f"must be a type of {kind}, not {media_type!r}"


@dataclass(frozen=True, slots=True)
class UnknownMedia:
    """Nothing was uploaded under this id."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The file exists. `used_by` is the first job that used it; None means that it can still be deleted.

    `times` is how often this content was uploaded; deleted content can be uploaded again.
    """

    uploaded: MediaUploaded
    used_by: UUID | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class DeletedMedia:
    """The owner deleted the upload; the same content may be uploaded again. `times` is how often it was uploaded."""

    uploaded: MediaUploaded
    times: int = 1


Media = UnknownMedia | Uploaded | DeletedMedia


def decide(command: MediaCommand, media: Media) -> list[MediaEvent]:
    """Apply a command to an upload. A repeated command returns nothing.

    The id follows from owner and content, so the same file uploaded again has the same id. An upload that a job uses
    cannot be deleted. Using and deleting append to the same stream, so one of them comes first and the other sees it.
    The same holds for deleting and uploading again: a file stored at an outdated path is refused with the right one.
    """
    match command:
        case UploadMedia():
            return _upload(command, media)
        case UseMedia(job_id=job_id, path=path):
            if not isinstance(media, Uploaded) or path not in {None, media.uploaded.path}:
                raise NotFound("media", "under this id")
            return [MediaUsed(job_id=job_id)] if media.used_by is None else []
        case DeleteMedia():
            return _delete(media)
        case _:
            assert_never(command)


def evolve(media: Media, event: MediaEvent) -> Media:
    """Apply one event. Total, and without rules: history has already happened."""
    match event:
        case MediaUploaded():
            return Uploaded(event, times=1 if isinstance(media, UnknownMedia) else media.times + 1)
        case MediaUsed(job_id=job_id):
            return Uploaded(media.uploaded, job_id, media.times) if isinstance(media, Uploaded) else media
        case MediaDeleted():
            return DeletedMedia(media.uploaded, media.times) if isinstance(media, Uploaded) else media
        case _:
            assert_never(event)


def owner_of(media: Media) -> str | None:
    """The owner of the upload; None for an id that was never uploaded."""
    return None if isinstance(media, UnknownMedia) else media.uploaded.owner


def media_id(owner: str, sha256: str) -> UUID:
    """The id of an owner's upload: the same content has the same id, and a different one for each owner."""
    return owned_id(OWNERS, owner, sha256)


def upload_path(owner: str, sha256: str, media_type: str, times: int = 1) -> str:
    """The path of an uploaded file in the object store. `media_type` is one of `EXTENSIONS`.

    Content uploaded again after a deletion gets a new path (`times` counts): a late deletion of the old file cannot hit
    the new one.
    """
    again = f"-{times}" if times > 1 else ""
    return f"uploads/{owner}/{sha256}{again}.{EXTENSIONS[media_type]}"


def place_of(command: UploadMedia, media: Media) -> str:
    """The current path for the file of this upload."""
    match media:
        case UnknownMedia():
            return upload_path(command.owner, command.sha256, command.media_type)
        case Uploaded(uploaded=uploaded):
            return uploaded.path
        case DeletedMedia(times=times):
            return upload_path(command.owner, command.sha256, command.media_type, times + 1)
        case _:
            assert_never(media)


def deleted_paths(media: Media) -> list[str]:
    """Where the file was that was deleted last, if any. The content may have been uploaded again, to another path."""
    match media:
        case UnknownMedia() | Uploaded(times=1):
            return []
        case Uploaded(uploaded=of, times=times):
            return [upload_path(of.owner, of.sha256, of.media_type, times - 1)]
        case DeletedMedia(uploaded=of):
            return [of.path]
        case _:
            assert_never(media)


def _delete(media: Media) -> list[MediaEvent]:
    match media:
        case UnknownMedia():
            raise NotFound("media", "under this id")
        case Uploaded(used_by=None):
            return [MediaDeleted()]
        case Uploaded(used_by=job_id):
            raise MediaInUse(job_id)
        case DeletedMedia():
            return []
        case _:
            assert_never(media)


def _upload(command: UploadMedia, media: Media) -> list[MediaEvent]:
    path = place_of(command, media)
    if command.stored_at not in {None, path}:
        raise MediaMoved(path)
    return [] if isinstance(media, Uploaded) else [_uploaded(command, path)]


def _uploaded(command: UploadMedia, path: str) -> MediaUploaded:
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
        path=path,
    )
