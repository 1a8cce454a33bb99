"""Deleting an upload: its file goes with it, unless jobs start from it; and it never takes a newer file along."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.app import create_app
from api.jobs.sources import Files
from domain.aggregates.media import DeletedMedia, Uploaded, media_id
from domain.commands import DeleteMedia, TrashAsset, UploadMedia
from domain.json_type import Json
from services.files.blobs import Blobs
from services.ledger import ASSET, MEDIA, Context
from services.ledger.commits import Commit, Receipt
from tests.api.assets.test_uploads import PATH, PNG, SHA256, described, upload
from tests.api.serving import Site, body
from tests.spec import NOW

AGAIN = PATH.replace(".png", "-2.png")
ADMIN = Context("admin", "admin")
MEDIA_ID = media_id("admin", SHA256)


async def told(site: Site, method: str, path: str) -> tuple[int, str | None]:
    """The status, and the code of a problem."""
    answer = await site.http.request(method, path)
    return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else None


async def started_from(site: Site, source: str) -> Json:
    """A job with this picture for a reference."""
    reference = {"type": "composition", "source": source, "strength": 0.5}
    return await site.submit(quantity=1, references=[reference])


async def test_a_deleted_upload_and_its_file_are_gone(site: Site) -> None:
    media = described(await upload(site.http, PNG))
    answer = await site.http.delete(f"/v1/uploads/{media['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert int(answer.headers["Darkroom-Position"]) == site.ledger.head() == 2
    assert not await site.parts.blobs.exists(PATH)
    for path in (f"/v1/uploads/{media['id']}", media["url"]):
        assert await told(site, "GET", path) == (404, "not_found")
    reference = {"type": "composition", "source": f"media:{media['id']}", "strength": 0.5}
    refused = await site.http.post("/v1/jobs", json=body(references=[reference]))
    assert "there is no media" in refused.json()["errors"][0]["detail"]


async def test_deleting_again_says_the_same_and_finishes_what_a_crash_left(site: Site) -> None:
    media = described(await upload(site.http, PNG))
    site.ledger.execute(MEDIA, UUID(media["id"]), DeleteMedia(NOW), ADMIN)  # and then the process died
    assert await site.parts.blobs.exists(PATH)
    for _ in range(2):
        answer = await site.http.delete(f"/v1/uploads/{media['id']}")
        assert (answer.status_code, answer.headers["Darkroom-Position"]) == (204, "2")
        assert not await site.parts.blobs.exists(PATH)
    assert site.ledger.head() == 2


async def test_what_is_unknown_or_somebody_elses_cannot_be_deleted(site: Site) -> None:
    foreign = media_id("bob", SHA256)
    command = UploadMedia("bob", "image", "image/png", len(PNG), SHA256, NOW, 64, 48)
    site.ledger.execute(MEDIA, foreign, command, Context("bob", "bob"))
    job = await site.submit(quantity=1)
    head = site.ledger.head()
    answers = [await told(site, "DELETE", f"/v1/uploads/{one}") for one in (foreign, uuid4(), "fog.png", job["id"])]
    assert set(answers) == {(404, "not_found")}
    assert site.ledger.head() == head


async def test_an_upload_that_jobs_start_from_is_kept_and_one_of_them_is_named(site: Site) -> None:
    media = described(await upload(site.http, PNG))
    jobs = [await started_from(site, f"media:{media['id']}") for _ in range(2)]
    answer = await site.http.delete(f"/v1/uploads/{media['id']}")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "media_in_use")
    assert problem["detail"] == f"The upload is kept: jobs start from it, first of all job {jobs[0]['id']}."
    assert (await site.http.get(media["url"])).content == PNG


async def test_what_was_deleted_can_come_again(site: Site) -> None:
    first = described(await upload(site.http, PNG))
    await site.http.delete(f"/v1/uploads/{first['id']}")
    again = described(await upload(site.http, PNG))
    assert again == first
    assert (await site.http.get(first["url"])).content == PNG
    assert site.ledger.media(MEDIA_ID).uploaded.path == AGAIN
    job = await started_from(site, f"media:{first['id']}")
    (queued, *_) = (await site.get(f"/v1/jobs/{job['id']}/history"))["results"]
    assert queued["data"]["recipe"]["files"][f"media:{first['id']}"]["path"] == AGAIN


async def test_deleting_needs_nats_and_takes_no_body(site: Site) -> None:
    media = described(await upload(site.http, PNG))
    refused = await site.http.request("DELETE", f"/v1/uploads/{media['id']}", json={"force": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    await site.parts.broker.close()
    assert await told(site, "DELETE", f"/v1/uploads/{media['id']}") == (503, "broker_unavailable")
    assert await site.parts.blobs.exists(PATH)


async def test_an_upload_that_goes_while_a_job_is_read_is_a_bad_field(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = described(await upload(site.http, PNG))

    resolve = Files.resolve

    def and_then_deleted(*arguments: Any) -> object:
        found = resolve(*arguments)
        site.ledger.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADMIN)
        return found

    monkeypatch.setattr("api.jobs.sources.Files.resolve", and_then_deleted)
    reference = {"type": "composition", "source": f"media:{media['id']}", "strength": 0.5}
    refused = await site.http.post("/v1/jobs", json=body(references=[reference]))
    [problem] = refused.json()["errors"]
    assert (refused.status_code, problem["path"]) == (422, "references.0.source")
    assert problem["detail"].endswith(f"there is no media:{media['id']}")
    assert site.ledger.head() == 2


# Deleting and bringing again at the same time.


class Interrupted(Blobs):
    """An object store where something happens just after a file was stored, or found to be there already."""

    def __init__(self, url: str, *happenings: Callable[[], object]) -> None:
        super().__init__(url)
        self.happenings = list(happenings)

    def put_once(self, path: str, content: bytes) -> bool:
        """Then the next of the happenings."""
        written = super().put_once(path, content)
        if self.happenings:
            self.happenings.pop(0)()
        return written


@asynccontextmanager
async def with_blobs(site: Site, blobs: Blobs) -> AsyncIterator[httpx.AsyncClient]:
    """The same API on another object store."""
    app = create_app(replace(site.parts, blobs=blobs))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=site.http.headers, timeout=60) as http,
    ):
        yield http


def files_in(folder: Path) -> list[str]:
    """Their paths in the object store."""
    return [str(file.relative_to(folder)) for file in folder.rglob("*.png")]


@pytest.mark.parametrize("times", [1, 2])
async def test_an_upload_that_is_deleted_while_it_comes_again_is_stored_again(
    site: Site, tmp_path: Path, times: int
) -> None:
    blobs = Interrupted(tmp_path.as_uri())

    def deleted() -> None:
        executed = site.ledger.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADMIN)
        assert isinstance(executed.state, DeletedMedia)
        blobs.delete(executed.state.uploaded.path)

    def came_again() -> None:  # and was deleted at once
        content = UploadMedia("admin", "image", "image/png", len(PNG), SHA256, NOW, 64, 48)
        site.ledger.execute(MEDIA, MEDIA_ID, content, ADMIN)
        deleted()

    async with with_blobs(site, blobs) as http:
        url = described(await upload(http, PNG))["url"]
        blobs.happenings = [deleted, came_again][:times]
        described(await upload(http, PNG))
        assert (await http.get(url)).content == PNG
    media = site.ledger.media(MEDIA_ID)
    assert media.times == times + 1
    assert files_in(tmp_path) == [media.uploaded.path]


async def test_uploads_and_deletions_at_once_never_leave_an_event_without_its_file(site: Site, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    async with with_blobs(site, blobs) as one, with_blobs(site, blobs) as other:
        for _ in range(6):
            calls = [upload(each, PNG) for each in (one, other, one)]
            calls += [each.delete(f"/v1/uploads/{MEDIA_ID}") for each in (other, one, other)]
            statuses = [answer.status_code for answer in await asyncio.gather(*calls)]
            assert set(statuses) <= {200, 201, 204, 404}, statuses
            state = site.ledger.any_media(MEDIA_ID)
            assert files_in(tmp_path) == ([state.uploaded.path] if isinstance(state, Uploaded) else [])
    assert site.ledger.head() >= 6


# What jobs start from, in the trash.


async def test_a_job_that_starts_from_an_asset_in_the_trash_runs_its_course(site: Site) -> None:
    parent = await site.finished(quantity=1)
    (asset,) = parent["assets"]
    job = await started_from(site, f"asset:{asset['id']}")
    site.ledger.execute(ASSET, UUID(asset["id"]), TrashAsset(NOW), ADMIN)
    await site.start(job)
    (queued, *_) = (await site.get(f"/v1/jobs/{job['id']}/history"))["results"]
    file = queued["data"]["recipe"]["files"][f"asset:{asset['id']}"]
    assert (file["sha256"], await site.parts.blobs.exists(file["path"])) == (asset["sha256"], True)
    await site.complete(job, 0)
    assert (await site.get(f"/v1/jobs/{job['id']}"))["status"] == "succeeded"


# A sound.


async def test_a_sound_of_ones_own_is_refused_because_no_model_takes_one(site: Site) -> None:
    sound = UploadMedia("admin", "audio", "audio/wav", 1_000, SHA256, NOW)
    site.ledger.execute(MEDIA, MEDIA_ID, sound, ADMIN)
    asked = body(job_type="video_fast", quantity=1, media={"audio": f"media:{MEDIA_ID}"})
    refused = await site.http.post("/v1/jobs", json=asked)
    [problem] = refused.json()["errors"]
    assert (refused.status_code, problem["path"]) == (422, "media.audio")
    assert problem["detail"].endswith("no model starts from audio")


# A commit whose answer was lost is sent again, and meanwhile more has happened.


def answered_late(site: Site, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """The next commit lands, then `meanwhile` happens, and only the repeat of the commit is answered."""
    write = site.ledger._given.write

    def lost(commit: Commit) -> Receipt:
        monkeypatch.setattr(site.ledger._given, "write", write)
        receipt = write(commit)
        meanwhile()
        return replace(receipt, repeated=True)

    monkeypatch.setattr(site.ledger._given, "write", lost)


async def test_an_upload_that_is_deleted_before_its_answer_is_stored_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_late(site, monkeypatch, lambda: site.ledger.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADMIN))
    media = described(await upload(site.http, PNG))
    assert site.ledger.media(MEDIA_ID).uploaded.path == AGAIN
    assert (await site.http.get(media["url"])).content == PNG
    assert not await site.parts.blobs.exists(PATH)


async def test_the_deleted_file_goes_although_its_content_comes_again_before_the_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = described(await upload(site.http, PNG))
    command = UploadMedia("admin", "image", "image/png", len(PNG), SHA256, NOW, 64, 48)
    answered_late(site, monkeypatch, lambda: site.ledger.execute(MEDIA, MEDIA_ID, command, ADMIN))
    assert await told(site, "DELETE", f"/v1/uploads/{media['id']}") == (204, None)
    assert not await site.parts.blobs.exists(PATH)
    assert site.ledger.media(MEDIA_ID).uploaded.path == AGAIN
