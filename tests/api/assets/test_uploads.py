"""Uploads: what decoding finds is what they are; nothing the client says of them counts, and nothing else gets in."""

import asyncio
import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.app import create_app
from api.assets.uploads import DECODED_AT_ONCE, DECODED_AT_ONCE_OF_ONE, FILES_RECEIVED_MAX
from domain.aggregates.media import media_id, upload_path
from domain.commands import UploadMedia
from domain.events import MediaUploaded
from domain.json_type import Json
from services import users
from services.files.blobs import Blobs
from services.files.decoders import bounded
from services.ledger import MEDIA, Context
from tests.api.conftest import serving
from tests.api.isolation import routes_of
from tests.api.serving import TOKEN, AServer, Site, until
from tests.services.hostile_files import jpeg_with_scans, mp4_that_claims
from tests.services.media_files import encoded, picture, png_that_claims, sound, turned, video
from tests.spec import NOW

PNG = encoded(picture())
SHA256 = hashlib.sha256(PNG).hexdigest()
PATH = f"uploads/admin/{SHA256}.png"
LIMIT = 100_000


async def upload(
    http: httpx.AsyncClient, content: bytes, name: str = "fog.png", kind: str = "image/png"
) -> httpx.Response:
    """Send it as a browser would."""
    return await http.post("/v1/uploads", files={"file": (name, content, kind)})


def described(response: httpx.Response, status: int = 201) -> Json:
    """The media of an answer."""
    assert response.status_code == status, response.text
    document: Json = response.json()
    return document


def assert_nothing_was_kept(site: Site, response: httpx.Response, status: int, code: str) -> Json:
    """The problem; the ledger and the store are as they were."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert site.ledger.head() == 0
    problem: Json = response.json()
    return problem


# What is taken.


async def test_an_upload_is_stored_by_its_hash_and_known_afterwards(site: Site) -> None:
    response = await upload(site.http, PNG)
    media = described(response)
    assert media == {
        "id": str(media_id("admin", SHA256)),
        "kind": "image",
        "media_type": "image/png",
        "bytes": len(PNG),
        "sha256": SHA256,
        "width": 64,
        "height": 48,
        "url": f"/v1/uploads/{media['id']}/content",
    }
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head() == 1
    assert site.parts.blobs.get(PATH) == PNG
    assert site.ledger.media(UUID(media["id"]), owner="admin").uploaded.path == PATH
    assert await site.get(f"/v1/uploads/{media['id']}") == media


async def test_the_same_file_again_is_the_same_media(site: Site) -> None:
    first = await upload(site.http, PNG)
    again = await upload(site.http, PNG, "other.jpg", "text/plain")
    assert described(again, 200) == described(first)
    assert again.headers["Darkroom-Position"] == first.headers["Darkroom-Position"]
    assert site.ledger.head() == 1


async def test_the_same_file_at_the_same_time_is_one_media(site: Site) -> None:
    answers = await asyncio.gather(*(upload(site.http, PNG) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["id"] for answer in answers}) == site.ledger.head() == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(picture(), "JPEG", exif=turned(6)), ("image", "image/jpeg", 48, 64)),
        (encoded(picture(), "WEBP"), ("image", "image/webp", 64, 48)),
        (video(frames=5), ("video", "video/mp4", 64, 48)),
        (sound("mp4", "aac", seconds=0.2), ("audio", "audio/mp4", None, None)),
    ],
    ids=["jpeg", "webp", "mp4", "m4a"],
)
async def test_what_it_is_is_decided_by_decoding(site: Site, content: bytes, expected: tuple[Any, ...]) -> None:
    media = described(await upload(site.http, content, "fog.png", "image/png"))
    assert (media["kind"], media["media_type"], media["width"], media["height"]) == expected


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "http://127.0.0.1/x.png", "a\0b.png", "", "x" * 500]
)
async def test_the_clients_name_of_a_file_leads_nowhere(site: Site, name: str) -> None:
    content = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--x--\r\n'
    response = await site.http.post(
        "/v1/uploads",
        content=content % (name.encode(), PNG),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    media = described(response)
    [event] = site.ledger.stream(UUID(media["id"]))
    assert event.event.path == PATH  # type: ignore[union-attr]
    assert name[:20] not in str(event) or not name


async def test_an_upload_is_an_event_of_its_owner(site: Site, server: AServer) -> None:
    async with server.events() as events:
        media = described(await upload(site.http, PNG))
        [(position, kind, item)] = await events.until(1)
    assert (position, kind, item["stream"], item["correlation_id"]) == (1, "media.uploaded", media["id"], media["id"])
    assert item["data"]["sha256"] == SHA256
    await site.get("/v1/jobs")
    with site.parts.database.connection() as connection:
        rows = connection.execute("select type, owner, stream_id::text from views.history").fetchall()
        parked = connection.execute("select * from parked_events").fetchall()
    assert (rows, parked) == ([("media.uploaded", "admin", media["id"])], [])


# The file.


async def test_the_content_comes_with_its_hash_and_in_ranges(site: Site) -> None:
    url = described(await upload(site.http, PNG))["url"]
    whole = await site.http.get(url)
    assert (whole.status_code, whole.content, whole.headers["Content-Type"]) == (200, PNG, "image/png")
    assert (whole.headers["ETag"], whole.headers["X-Content-Type-Options"]) == (f'"{SHA256}"', "nosniff")
    part = await site.http.get(url, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert (await site.http.get(url, headers={"If-None-Match": f'"{SHA256}"'})).status_code == 304
    assert (await site.http.get(url, headers={"Range": "bytes=999999-"})).status_code == 416
    head = await site.http.head(url)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(PNG)))


async def test_a_crash_between_file_and_event_is_made_good_by_the_next_upload(site: Site) -> None:
    site.parts.blobs.put_once(PATH, PNG)
    described(await upload(site.http, PNG))
    assert site.parts.blobs.get(PATH) == PNG


async def test_a_file_that_was_damaged_or_lost_is_repaired_by_uploading_it_again(site: Site) -> None:
    site.parts.blobs.put_once(PATH, PNG[:100])
    url = described(await upload(site.http, PNG))["url"]
    assert (await site.http.get(url)).content == PNG
    site.parts.blobs.delete(PATH)
    assert (await site.http.get(url)).json()["code"] == "blob_missing"
    described(await upload(site.http, PNG), 200)
    assert (await site.http.get(url)).content == PNG


# Whose it is.


async def test_somebody_elses_upload_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    foreign = media_id("bob", SHA256)
    command = UploadMedia("bob", "image", "image/png", len(PNG), SHA256, NOW, 64, 48)
    site.ledger.execute(MEDIA, foreign, command, Context("bob", "bob"))
    job = await site.submit(quantity=1)
    for path in ("", "/content"):
        answers = [
            await site.http.get(f"/v1/uploads/{one}{path}")
            for one in (foreign, uuid4(), "fog.png", job["id"], job["assets"][0]["id"])
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
    assert described(await upload(site.http, PNG))["id"] != str(foreign)


# What is refused.


async def test_what_is_no_media_is_refused_and_says_what_is_taken(site: Site) -> None:
    three_hours = video("mp4", "mpeg4", frames=10_800, fps=1, size=(16, 16))
    bomb = png_that_claims(60_000, 60_000)
    for content in (b"a text\n" * 100, PNG[: len(PNG) // 2], b"", encoded(picture(), "GIF"), bomb, three_hours):
        problem = assert_nothing_was_kept(site, await upload(site.http, content), 422, "media_unreadable")
        assert problem["detail"].endswith(".")
    assert not await site.parts.blobs.exists(upload_path("admin", hashlib.sha256(b"").hexdigest(), "image/png"))


FORMS: list[tuple[list[tuple[str, Any]], dict[str, str], list[str]]] = [
    ([("image", ("fog.png", PNG))], {}, ["image", "file"]),
    ([("file", ("a.png", PNG)), ("file", ("b.png", PNG))], {}, ["file"]),
    ([("file", ("a.png", PNG))], {"url": "http://127.0.0.1/fog.png"}, ["url"]),
    ([("mask", ("b.png", PNG)), ("file", ("a.png", PNG))], {"path": "/etc/passwd"}, ["mask", "path"]),
    ([("other", ("a.png", PNG))], {"file": "http://127.0.0.1/fog.png"}, ["file", "other"]),
]


@pytest.mark.parametrize(("files", "fields", "paths"), FORMS)
async def test_nothing_but_the_one_field_is_taken(
    site: Site, files: list[tuple[str, Any]], fields: dict[str, str], paths: list[str]
) -> None:
    response = await site.http.post("/v1/uploads", files=files, data=fields)
    problem = assert_nothing_was_kept(site, response, 422, "invalid_input")
    assert sorted(one["path"] for one in problem["errors"]) == sorted(paths)


@pytest.mark.parametrize(
    "content",
    [b"", b"--x--\r\n", b"not a form", b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nPNG',
     b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + PNG + b"\r\n--x\r\n",
     b"--x\r\nContent-Type: image/png\r\n\r\nabc\r\n--x--\r\n", b"--x\r\n" + b"A: b\r\n" * 10_000],
    ids=["nothing", "no part", "no form", "cut off", "cut off after the file", "no name", "many headers"],
)  # fmt: skip
async def test_a_form_that_is_broken_is_refused(site: Site, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await site.http.post("/v1/uploads", content=content, headers=headers)
    problem = assert_nothing_was_kept(site, response, 422, "invalid_input")
    assert {one["path"] for one in problem["errors"]} <= {"file", "body"}


async def test_a_form_without_a_boundary_and_with_too_many_parts_is_refused(site: Site) -> None:
    response = await site.http.post("/v1/uploads", content=PNG, headers={"Content-Type": "multipart/form-data"})
    assert "oundary" in assert_nothing_was_kept(site, response, 422, "invalid_input")["detail"]
    response = await site.http.post("/v1/uploads", files=[("file", ("a.png", PNG))] * 9)
    assert "8 parts" in assert_nothing_was_kept(site, response, 422, "invalid_input")["detail"]


@pytest.mark.parametrize("kind", ["image/png", "application/json", "application/x-www-form-urlencoded", ""])
async def test_what_is_no_form_is_refused(site: Site, kind: str) -> None:
    response = await site.http.post("/v1/uploads", content=PNG, headers={"Content-Type": kind} if kind else {})
    assert "multipart/form-data" in assert_nothing_was_kept(site, response, 415, "unsupported_media_type")["detail"]


async def test_writes_need_nats(site: Site) -> None:
    await site.parts.broker.close()
    assert_nothing_was_kept(site, await upload(site.http, PNG), 503, "broker_unavailable")


async def test_a_store_that_fails_leaves_no_event(site: Site, tmp_path: Path) -> None:
    full = tmp_path / "full"
    (full / "uploads").mkdir(parents=True)
    (full / "uploads" / "admin").write_text("in the way")
    app = create_app(replace(site.parts, blobs=Blobs(full.as_uri())))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=site.http.headers) as http,
    ):
        assert_nothing_was_kept(site, await upload(http, PNG), 503, "blob_store_unavailable")


# How much is read: over a real connection.


async def test_a_body_that_says_it_is_too_large_is_refused_unread(site: Site) -> None:
    async with serving(replace(site.parts, upload_bytes_max=LIMIT)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head_of_request(f"Content-Length: {LIMIT + 1}"))
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 20)  # though not a byte of the body was sent
        writer.close()
    assert b" 413 " in answer
    assert b"body_too_large" in answer
    assert str(LIMIT).encode() in answer
    assert site.ledger.head() == 0


async def test_a_body_without_a_length_is_cut_off_at_the_bound(site: Site) -> None:
    async with serving(replace(site.parts, upload_bytes_max=LIMIT)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head_of_request("Transfer-Encoding: chunked"))
        for part in (b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n', bytes(LIMIT)):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 20)  # though the body has no end yet
        writer.close()
    assert b" 413 " in answer
    assert b"body_too_large" in answer
    assert site.ledger.head() == 0


async def test_a_file_at_the_bound_is_taken(site: Site) -> None:
    async with (
        serving(replace(site.parts, upload_bytes_max=len(PNG) + 300)) as server,
        httpx.AsyncClient(base_url=server.url, headers=site.http.headers, trust_env=False) as http,
    ):
        described(await upload(http, PNG))
        response = await upload(http, PNG + bytes(300))
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_client_that_goes_away_leaves_nothing(
    site: Site, server: AServer, caplog: pytest.LogCaptureFixture
) -> None:
    running = server.app.state.running
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head_of_request("Content-Length: 50000"))
    writer.write(b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(1_000))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=server.url, headers=site.http.headers, trust_env=False) as http:
        described(await upload(http, PNG))
    await until(lambda: running.receiving.held == running.decoding.held == 0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert site.ledger.head() == 1


async def test_an_owner_cannot_take_all_places_where_files_are_decoded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    inside: list[int] = []

    def slow(content: bytes) -> None:
        inside.append(len(content))
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
        raise AssertionError("enough")

    monkeypatch.setattr("api.assets.uploads.probe", slow)
    uploads = [asyncio.create_task(upload(site.http, PNG)) for _ in range(6)]
    await until(lambda: len(inside) == DECODED_AT_ONCE_OF_ONE)
    assert (await site.http.get("/healthz")).status_code == 200
    assert len(inside) == DECODED_AT_ONCE_OF_ONE < DECODED_AT_ONCE
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {500}
    assert len(inside) == 6


async def test_a_known_file_is_not_decoded_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = described(await upload(site.http, PNG))

    def never(_: bytes) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("api.assets.uploads.probe", never)
    assert described(await upload(site.http, PNG), 200) == first


@pytest.mark.parametrize(
    "content",
    [mp4_that_claims(2**26), mp4_that_claims(2**26, tracks=3), jpeg_with_scans(2_662)],
    ids=["samples", "tracks", "scans"],
)
async def test_a_file_that_claims_what_it_cannot_hold_is_refused_at_once(site: Site, content: bytes) -> None:
    began = time.monotonic()
    assert_nothing_was_kept(site, await upload(site.http, content), 422, "media_unreadable")
    assert time.monotonic() - began < 20  # of a machine that does other things as well; before, minutes


async def test_a_decoder_that_is_stuck_holds_up_nobody_who_ends(site: Site) -> None:
    """A picture of many scans, just below what is refused: its decoder is killed, its sender learns."""
    slow = asyncio.create_task(upload(site.http, jpeg_with_scans(79)))
    await until(lambda: bool(bounded.DECODERS.busy))
    try:
        await asyncio.to_thread(bounded.end)
        problem = assert_nothing_was_kept(site, await slow, 503, "decoding_unavailable")
        assert "try again" in problem["detail"]
    finally:
        bounded.begin()
    described(await upload(site.http, PNG))


async def test_no_more_of_one_owners_uploads_are_on_disk_than_allowed(site: Site) -> None:
    """The bodies of further ones are not read: what waits, waits with their sender."""
    limit = 4 * 1024 * 1024
    async with serving(replace(site.parts, upload_bytes_max=limit)) as server:
        receiving = server.app.state.running.receiving
        connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(8)]
        for _, writer in connections:
            writer.write(head_of_request(f"Content-Length: {limit}"))
            writer.write(b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(100_000))
            await writer.drain()
        await until(lambda: receiving.held == FILES_RECEIVED_MAX // 2)
        async with httpx.AsyncClient(base_url=server.url, headers=site.http.headers, trust_env=False) as http:
            assert (await http.get("/healthz")).status_code == 200
        assert receiving.held == FILES_RECEIVED_MAX // 2
        for _, writer in connections:
            writer.close()
        await until(lambda: receiving.held == 0)


def head_of_request(line: str) -> bytes:
    """The head of an upload, with a line of its own."""
    return (
        "POST /v1/uploads HTTP/1.1\r\nHost: darkroom\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: multipart/form-data; boundary=x\r\n{line}\r\n\r\n"
    ).encode()


def test_the_event_holds_nothing_that_the_client_said() -> None:
    assert set(MediaUploaded.model_fields) == {
        "owner", "kind", "media_type", "bytes", "sha256", "width", "height", "frames", "fps", "duration_s", "path",
    }  # fmt: skip


# Which files it leaves.


async def test_nobody_but_its_owner_gets_an_upload_by_any_route(site: Site, server: AServer) -> None:
    """What a camera wrote into it stays with its owner: not even the administrator reads it over the API."""
    exif = turned(6)
    exif[0x010F] = "a camera of somebody"
    content = encoded(picture(), "JPEG", exif=exif)
    key = await asyncio.to_thread(key_for, site, "ada")
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ) as ada:
        media = described(await upload(ada, content))
        assert (await ada.get(media["url"])).content == content
    document = (await site.http.get("/openapi.json")).json()
    asked = 0
    for route in routes_of(document):
        if route.method in {"GET", "HEAD"}:
            answer = await site.http.request(route.method, route.at(media["id"]))
            assert b"a camera of somebody" not in answer.content, route
            assert SHA256 not in answer.text
            asked += 1
    assert asked > 10
    assert (await site.http.get(media["url"])).status_code == 404


def key_for(site: Site, name: str) -> str:
    """A new user's key."""
    with site.parts.database.connection() as connection:
        return users.add(connection, name).key
