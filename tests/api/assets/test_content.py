"""A file never runs as a page of ours, whatever somebody once said that it is."""

import pytest
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from api.assets.content import SHOWN, UNTYPED, File, file_answer
from services.files.blobs import Blobs

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
    answer = await file_answer(blobs, File("b/ada/x.html", media_type, len(PAGE), "0" * 64), Headers({}), head=head)
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
