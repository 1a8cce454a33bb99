"""Uploads: files that jobs start from. Each is decoded, stored under its hash, and only then recorded in the ledger.

A crash in between leaves a file that no event names: harmless, and the next upload of the same content uses it.
Deletion is the reverse: first the ledger, then the file. Content that is uploaded again afterwards gets another path,
so a late deletion or upload cannot remove a file that the ledger names.
"""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.assets.content import File, file_answer
from api.http import schemas
from api.http.bodies.form import Spool, bytes_of, file_of
from api.http.bodies.json_body import read_nothing
from api.http.idempotency import after_the_commit
from api.http.identity import identity_of
from api.http.limits.slots import Room, Slots
from api.http.openapi import answers, file_in_form, files
from api.http.read_your_writes import POSITION
from api.http.responses import answer
from api.jobs.documents import media_document
from api.jobs.reading import identifier
from api.state import Parts, require_broker, state_of
from domain.aggregates.media import Uploaded, deleted_paths, media_id, place_of
from domain.commands import DeleteMedia, UploadMedia
from domain.errors import MediaMoved
from domain.events import MediaUploaded
from services.crash_points import Point, reached
from services.database import Unavailable
from services.files.blobs import BlobMissing, Blobs
from services.files.decoders.bounded import probe
from services.files.media.formats import HEAD_BYTES, pixels_claimed
from services.files.media.kinds import PIXELS_MAX
from services.ledger import MEDIA, Context, MediaExecuted

router = APIRouter(tags=["uploads"])

FIELD = "file"

MOVES_MAX: Final = 8
"""Maximum number of moves to a new path. Each needs a deletion during an upload of the same content; so many in a row
are no accident."""

FILES_RECEIVED_MAX: Final = 8
"""Uploads of the largest size that are on disk at a time: half of them may belong to one owner."""

RECEIVED_AT_ONCE: Final = 64
RECEIVED_AT_ONCE_OF_ONE: Final = 16
"""Maximum uploads of an owner on disk, or in memory if they are small, at a time."""

DECODED_AT_ONCE: Final = 4
DECODED_AT_ONCE_OF_ONE: Final = 2
"""Maximum uploads of an owner that are decoded at a time: each holds its file in memory, and a processor."""

SMALL_PIXELS: Final = 1024 * 1024
"""Pixels up to which pictures do not wait for memory that larger ones use."""

RECEIVING_WAIT_S_MAX: Final = 60.0
DECODING_WAIT_S_MAX: Final = 600.0


def receiving(upload_bytes_max: int) -> Slots:
    """Slots for uploads on disk."""
    amounts = FILES_RECEIVED_MAX * upload_bytes_max, FILES_RECEIVED_MAX * upload_bytes_max // 2
    return Slots(Room(RECEIVED_AT_ONCE, RECEIVED_AT_ONCE_OF_ONE, *amounts))


def decoding() -> Slots:
    """Slots for uploads that are decoded: two of the largest pictures at a time, one of them of one owner."""
    return Slots(Room(DECODED_AT_ONCE, DECODED_AT_ONCE_OF_ONE, 2 * PIXELS_MAX, PIXELS_MAX))


@router.post(
    "/v1/uploads",
    status_code=201,
    response_model=None,
    responses=answers({201: schemas.Upload, 200: schemas.Upload}, 413, 415, 422, 503),
    openapi_extra=file_in_form(FIELD),
)
async def upload(request: Request) -> Response:
    """Upload an image, video or sound for jobs to start from: 201. The same content again is the same media: 200."""
    state = state_of(request)
    require_broker(state)
    owner = identity_of(request).owner
    bytes_max = state.parts.upload_bytes_max
    async with (
        state.receiving.taken(owner, bytes_of(request, bytes_max), RECEIVING_WAIT_S_MAX),
        file_of(request, FIELD, bytes_max) as file,
    ):
        pixels = await asyncio.to_thread(_pixels_of, file)
        async with state.decoding.taken(owner, pixels, DECODING_WAIT_S_MAX):
            content = await asyncio.to_thread(file.read)
            kept = await asyncio.to_thread(_keep, state.parts, owner, content, state.parts.clock())
    return answer(media_document(kept.uploaded), 201 if kept.new else 200, position=kept.position)


@router.get("/v1/uploads/{media}", response_model=None, responses=answers({200: schemas.Upload}, 404, 503))
async def get_upload(request: Request, media: str) -> Response:
    """One upload."""
    return answer(media_document(await _found(request, media)))


@router.head("/v1/uploads/{media}/content", response_model=None, include_in_schema=False)
@router.get(
    "/v1/uploads/{media}/content",
    response_model=None,
    response_class=Response,
    responses=files(404, 416, 503),
)
async def get_upload_content(request: Request, media: str) -> Response:
    """The file. Its entity tag is the SHA-256 in the ledger; supports a range and conditional requests."""
    found = await _found(request, media)
    file = File(found.path, found.media_type, found.bytes, found.sha256)
    return await file_answer(state_of(request).parts.blobs, file, request.headers, head=request.method == "HEAD")


@router.delete(
    "/v1/uploads/{media}", status_code=204, response_model=None, responses=answers({204: None}, 404, 409, 503)
)
async def delete_upload(request: Request, media: str) -> Response:
    """Delete an upload with its file: 204, also if it is already deleted. 409 if jobs start from it."""
    state = state_of(request)
    found = identifier("media", media)
    await read_nothing(request)
    require_broker(state)
    executed = await asyncio.to_thread(_remove, state.parts, identity_of(request).owner, found, state.parts.clock())
    return Response(status_code=204, headers={POSITION: str(executed.position)})


async def _found(request: Request, text: str) -> MediaUploaded:
    ledger = state_of(request).parts.ledger
    media = await asyncio.to_thread(ledger.media, identifier("media", text), owner=identity_of(request).owner)
    return media.uploaded


def _pixels_of(file: Spool) -> int:
    """The pixels that count towards the budget. Raises `UnreadableMedia` for an unsupported format."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    pixels = pixels_claimed(head)
    return pixels if pixels > SMALL_PIXELS else 0


@dataclass(frozen=True, slots=True)
class Kept:
    """A recorded upload. `new`: this request recorded it."""

    uploaded: MediaUploaded
    position: int
    new: bool


def _keep(parts: Parts, owner: str, content: bytes, now: datetime) -> Kept:
    """Decode, store, record, in this order: the ledger never names a missing file. Raises `Unavailable`."""
    sha256 = hashlib.sha256(content).hexdigest()
    identifier = media_id(owner, sha256)
    media = parts.ledger.any_media(identifier)
    found = media.uploaded if isinstance(media, Uploaded) else probe(content)
    upload = UploadMedia(
        owner=owner,
        kind=found.kind,
        media_type=found.media_type,
        bytes=len(content),
        sha256=sha256,
        now=now,
        width=found.width,
        height=found.height,
        frames=found.frames,
        fps=found.fps,
        duration_s=found.duration_s,
    )
    path = place_of(upload, media)
    for _ in range(MOVES_MAX):
        _store(parts.blobs, path, content, sha256)
        reached(Point.UPLOAD_AFTER_FILE)
        try:
            executed = parts.ledger.execute(MEDIA, identifier, replace(upload, stored_at=path), Context(owner, owner))
        except MediaMoved as moved:
            parts.blobs.delete(path)  # of a deleted upload; no event will ever name it again
            path = moved.path
            continue
        if isinstance(executed.state, Uploaded):
            return Kept(executed.state.uploaded, executed.position, new=bool(executed.decision))
        # It was deleted before the commit, which had to be sent again, was answered.
    raise Unavailable("The upload is deleted each time it comes; send it once more.")


def _remove(parts: Parts, owner: str, identifier: UUID, now: datetime) -> MediaExecuted:
    """First the event, then the file. A repeat removes a file that a crash in between has left."""
    executed = parts.ledger.execute(MEDIA, identifier, DeleteMedia(now), Context(owner, owner))
    reached(Point.UPLOAD_AFTER_DELETION)
    with after_the_commit():
        for path in deleted_paths(executed.state):
            parts.blobs.delete(path)
    return executed


def _store(blobs: Blobs, path: str, content: bytes, sha256: str) -> None:
    if blobs.put_once(path, content):
        return
    with suppress(BlobMissing):  # another request removed it just now
        if blobs.describe(path).sha256 == sha256:
            return
    blobs.delete(path)  # damaged on disk; the right content is available here
    blobs.put_once(path, content)
