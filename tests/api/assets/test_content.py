"""A file never runs as a page of ours, whatever somebody once said that it is."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from api.assets.content import SHOWN, UNTYPED, File, file_answer
from api.http.errors import FileDamaged
from services.files.blobs import CHUNK_BYTES, Blobs, BlobStoreUnavailable

PAGE = b"<script>alert(document.domain)</script>"

RUNNING = [
    "text/html",
    "TEXT/HTML",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "image/png\r\nContent-Type: text/html",
    "image/png; charset=x\nSet-Cookie: a=b",
    "image/png, text/html",
    "image/png ",
    "Image/PNG",
    "application/pdf",
    "text/javascript",
    "image/gif",
    "",
]


async def sent(media_type: str, *, head: bool = False) -> tuple[Headers, bytes]:
    """Headers and content of the answer for a file of this type."""
    blobs = Blobs("memory://")
    blobs.put_once("b/ada/x.html", PAGE)
    answer = await file_answer(
        blobs, File("b/ada/x.html", media_type, len(PAGE), sha256(PAGE).hexdigest()), Headers({}), head=head
    )
    content = (
        b"".join([bytes(part) async for part in answer.body_iterator]) if isinstance(answer, StreamingResponse) else b""
    )
    return Headers(raw=answer.raw_headers), content


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("media_type", RUNNING)
async def test_a_type_that_is_not_listed_is_sent_to_be_saved(media_type: str, head: bool) -> None:
    headers, content = await sent(media_type, head=head)
    assert headers["content-type"] == UNTYPED
    assert headers["content-disposition"] == 'attachment; filename="x.html"'
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers
    assert content == (b"" if head else PAGE)


@pytest.mark.parametrize("media_type", sorted(SHOWN))
async def test_a_listed_type_is_shown_and_nothing_in_it_runs(media_type: str) -> None:
    headers, content = await sent(media_type)
    assert headers["content-type"] == media_type
    assert headers["content-disposition"].startswith("inline;")
    policy = headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == ("nosniff", "same-origin")
    assert content == PAGE


async def received(blobs: Blobs, file: File) -> bytes:
    """The content of the answer."""
    answer = await file_answer(blobs, file, Headers({}), head=False)
    assert isinstance(answer, StreamingResponse)
    return b"".join([bytes(part) async for part in answer.body_iterator])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit at the end": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "a flipped bit at the start": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut in the middle": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("size", [1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_never_sent_as_the_whole_file(tmp_path: Path, size: int, damage: str) -> None:
    content = os.urandom(size)
    blobs = Blobs(tmp_path.as_uri())
    blobs.put_once("b/ada/x.png", DAMAGES[damage](content))
    with pytest.raises((FileDamaged, BlobStoreUnavailable)):
        await received(blobs, File("b/ada/x.png", "image/png", size, sha256(content).hexdigest()))


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
async def test_an_intact_file_is_sent_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    blobs = Blobs(tmp_path.as_uri())
    blobs.put_once("b/ada/x.png", content)
    file = File("b/ada/x.png", "image/png", size, sha256(content).hexdigest())
    assert await received(blobs, file) == content
