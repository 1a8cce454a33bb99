"""What a job starts from when it makes no sense: a 4xx that says what is allowed, and nothing is appended."""

from typing import Any
from uuid import uuid4

import pytest

from domain.aggregates.media import media_id
from domain.commands import UploadMedia
from domain.json_type import Json
from services.ledger import MEDIA, Context
from tests.api.serving import Site, body
from tests.spec import NOW

VIDEO = {"job_type": "video_fast", "quantity": 1}
SHA256 = "ab" * 32


def uploaded(site: Site, kind: Any, media_type: str, owner: str = "admin") -> str:
    """An upload of an owner, as a source."""
    identifier = media_id(owner, SHA256)
    command = UploadMedia(owner, kind, media_type, 1000, SHA256, NOW, 64, 48)
    site.ledger.execute(MEDIA, identifier, command, Context(owner, owner))
    return f"media:{identifier}"


def reference(source: str, strength: float = 0.5, kind: str = "composition") -> Json:
    """A reference of a body."""
    return {"type": kind, "source": source, "strength": strength}


async def refused(site: Site, path: str, words: str, **changes: Any) -> None:
    """The body is refused for this field in these words, and the ledger is as it was."""
    head = site.ledger.head()
    answer = await site.http.post("/v1/jobs", json=body(**changes))
    assert answer.status_code == 422, answer.text
    told = {problem["path"]: problem["detail"] for problem in answer.json()["errors"]}
    assert words in told.get(path, ""), told
    assert site.ledger.head() == head


@pytest.mark.parametrize("strength", [2, 0.05, -1, 0])
async def test_a_strength_out_of_range(site: Site, strength: float) -> None:
    source = uploaded(site, "image", "image/png")
    words = "must be at most 1" if strength == 2 else "must be at least 0.1"
    await refused(site, "references.0.strength", words, references=[reference(source, strength)])


async def test_a_reference_on_a_wan_type_that_takes_none(site: Site) -> None:
    source = uploaded(site, "image", "image/png")
    await refused(site, "references", "wan-demo takes none", **VIDEO, references=[reference(source)])


async def test_a_reference_of_a_type_that_the_model_lacks(site: Site) -> None:
    source = uploaded(site, "image", "image/png")
    await refused(site, "references.0.type", "takes composition", references=[reference(source, kind="character")])


@pytest.mark.parametrize(("task", "medium"), [("i2v", "image"), ("extend", "video")])
async def test_a_task_without_what_it_starts_from(site: Site, task: str, medium: str) -> None:
    await refused(site, f"media.{medium}", f"required for {task}", **VIDEO, task=task)


async def test_an_extension_of_an_unfinished_video(site: Site) -> None:
    job = await site.submit(**VIDEO)
    source = f"asset:{job['assets'][0]['id']}"
    await refused(site, "media.video", "is reserved", **VIDEO, media={"video": source})


async def test_an_extension_of_somebody_elses_video_reads_as_of_one_that_never_was(site: Site) -> None:
    foreign, unknown = uploaded(site, "video", "video/mp4", owner="bob"), f"media:{uuid4()}"
    for source in (foreign, unknown):
        await refused(site, "media.video", f"there is no {source}", **VIDEO, media={"video": source})


async def test_a_picture_where_a_video_has_to_be(site: Site) -> None:
    source = uploaded(site, "image", "image/png")
    await refused(site, "media.video", "must be a video", **VIDEO, media={"video": source})


@pytest.mark.parametrize("source", ["/etc/passwd", "https://example.org/a.png", "file:///etc/passwd", "../a.png"])
async def test_a_path_or_a_url_is_never_taken(site: Site, source: str) -> None:
    await refused(site, "references.0.source", "paths, URLs and bare ids", references=[reference(source)])
    await refused(site, "media.image", "paths, URLs and bare ids", **VIDEO, media={"image": source})


async def test_a_negative_prompt_that_cannot_be_made_is_recorded_and_fails_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(prompt: str) -> str:
        raise ValueError(f"no rule for {prompt}")

    monkeypatch.setattr("api.jobs.submission.negative_prompt_for", broken)
    job = await site.submit()
    assert job["negative_prompt"] is None
    (queued,) = [
        item for item in (await site.get(f"/v1/jobs/{job['id']}/history"))["results"] if item["type"] == "job.queued"
    ]
    assert queued["data"]["negative_prompt_error"] == "ValueError: no rule for a lighthouse in fog"
    assert queued["data"]["negative_prompt_by"] is None


async def test_a_negative_prompt_is_the_owners_or_the_rules(site: Site) -> None:
    own, ruled = await site.submit(negative_prompt="  Fog!  "), await site.submit()
    video = await site.submit(**VIDEO)
    assert own["negative_prompt"] == "  Fog!  "
    assert ruled["negative_prompt"]
    assert video["negative_prompt"] is None
