"""Serves a file of the object store over HTTP: entity tag, conditional requests, ranges."""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from api.http.errors import FileDamaged, RangeNotSatisfiable
from services.files.blobs import Blobs

RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)
UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)

CACHE_CONTROL: Final = "private, max-age=31536000, immutable"
"""A file never changes after it is written; but only its owner may cache it."""


SHOWN: Final = frozenset(
    {"image/png", "image/jpeg", "image/webp", "video/mp4", "video/webm", "video/quicktime"}
    | {f"audio/{kind}" for kind in ("mp4", "webm", "wav", "mpeg", "flac", "ogg")}
)
"""Types that a browser shows. A file of any other type is sent as bytes to save: an HTML page or an SVG with scripts
would run with our origin."""

UNTYPED: Final = "application/octet-stream"

POLICY: Final = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"

SECURED: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""For all bytes: scripts do not run, the type is not guessed, and no other site can load them."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that the ledger names. `bytes` is its size, `sha256` the hash in the ledger."""

    path: str
    media_type: str
    bytes: int
    sha256: str

    @property
    def shown_as(self) -> str:
        """The Content-Type of the answer."""
        return self.media_type if self.media_type in SHOWN else UNTYPED

    @property
    def disposition(self) -> str:
        """Shown in the browser, or saved under the file's name in the object store."""
        way = "attachment" if self.shown_as == UNTYPED else "inline"
        return f'{way}; filename="{UNSAFE.sub("_", self.path.rpartition("/")[2])}"'

    @property
    def etag(self) -> str:
        """The hash is the entity tag: equal tags mean equal bytes."""
        return f'"{self.sha256}"'


async def file_answer(blobs: Blobs, file: File, headers: Headers, *, head: bool) -> Response:
    """The file, a range of it, or 304 if it has not changed.

    A whole file is compared with its hash while it is sent. Raises `RangeNotSatisfiable`, `BlobMissing`, `FileDamaged`
    and `BlobStoreUnavailable`.
    """
    described = {
        "ETag": file.etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": CACHE_CONTROL,
        "Content-Disposition": file.disposition,
        **SECURED,
    }
    if _matches(headers.get("if-none-match"), file.etag):
        return Response(status_code=304, headers=described)
    status, start, end = 200, 0, file.bytes
    wanted = _range(headers, file)
    if wanted is not None:
        status, (start, end) = 206, wanted
        described["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    described["Content-Length"] = str(end - start)
    if head:
        return Response(status_code=status, headers=described, media_type=file.shown_as)
    chunks = blobs.read(file.path, start, end)
    if status == 200:
        chunks = _intact(chunks, file)
    first = await anext(chunks)  # a file that is missing, or small and damaged, must not begin as a 200
    return StreamingResponse(_continued(first, chunks), status, headers=described, media_type=file.shown_as)


async def _continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _intact(chunks: AsyncIterator[bytes], file: File) -> AsyncIterator[bytes]:
    """All chunks of a file, the last one only if the file has the hash of the ledger.

    Otherwise a file of one chunk is answered with the problem, and a longer answer is cut off: no client takes it for
    the file. Raises `FileDamaged`.
    """
    hashing, held = hashlib.sha256(), b""
    async for chunk in chunks:
        if held:
            yield held
        held = chunk
        hashing.update(chunk)
    if hashing.hexdigest() != file.sha256:
        raise FileDamaged(file.path)
    yield held


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags


def _range(headers: Headers, file: File) -> tuple[int, int] | None:
    """The requested range, its end exclusive. None for the whole file, also for several ranges (RFC 9110, 14.2)."""
    found = RANGE.fullmatch(headers.get("range", ""))
    if_range = headers.get("if-range")
    if found is None or (if_range is not None and if_range != file.etag):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, file.bytes - int(last)), file.bytes
        satisfiable = int(last) > 0
    else:
        start, end = int(first), min(int(last) + 1 if last else file.bytes, file.bytes)
        if last and int(last) < start:
            return None  # not a range at all: ignored
        satisfiable = start < file.bytes
    if not satisfiable:
        raise RangeNotSatisfiable(file.bytes)
    return start, end
