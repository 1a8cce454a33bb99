"""What is lost is said, in the answer to a submission and later of a worker; no wish is recorded as a fact."""

from typing import Any

import pytest
from PIL import Image

from domain.commands import NoteOfAttempt
from domain.events import JobWarned
from domain.json_type import Json
from tests.api.assets.test_uploads import described, upload
from tests.api.serving import Site
from tests.services.media_files import encoded, video


def codes(job: Json) -> list[str]:
    """The codes of the job's warnings."""
    return [warning["code"] for warning in job["warnings"]]


async def a_picture(site: Site, width: int, height: int) -> str:
    """The source of an upload."""
    return f"media:{described(await upload(site.http, encoded(Image.new('RGB', (width, height), 'red'))))['id']}"


async def a_video(site: Site, width: int, height: int, fps: int = 8) -> str:
    """The source of an upload."""
    content = video(size=(width, height), fps=fps, frames=8)
    return f"media:{described(await upload(site.http, content))['id']}"


async def extending(site: Site, source: str, **params: Any) -> Any:
    """The answer to a job that goes on from a video."""
    body = {"job_type": "video_fast", "prompt": "a red circle", "media": {"video": source}, "params": params}
    return await site.http.post("/v1/jobs", json=body)


def problems(answer: Any) -> dict[str, str]:
    """The details by path."""
    assert answer.status_code == 422, answer.text
    return {each["path"]: each["detail"] for each in answer.json()["errors"]}


async def test_what_is_lost_is_said_at_once_and_whenever_somebody_looks(site: Site) -> None:
    job = await site.submit(
        prompt="a (lighthouse:1.3) <lora:fog:1>", negative_prompt="blurry", params={"guidance": 1.0}
    )
    told = ["prompt_weights_ignored", "adapter_tag_ignored", "negative_prompt_ignored"]
    assert codes(job) == codes(await site.get(job["urls"]["get"])) == told
    assert "(lighthouse:1.3)" in job["warnings"][0]["detail"]


async def test_no_negative_prompt_is_made_where_none_is_read(site: Site) -> None:
    off, on = [await site.submit(params={"guidance": guidance}) for guidance in (1.0, 5.0)]
    assert (off["negative_prompt"], codes(off)) == (None, [])
    assert on["negative_prompt"] is not None


async def test_a_worker_warns_once_and_the_job_and_its_history_show_it(site: Site) -> None:
    job = await site.submit(quantity=1)
    await site.start(job)
    note = JobWarned(attempt=1, code="prompt_cut_off", detail="The model does not read “a blue star”.")
    for _ in range(2):
        await site.report(job, NoteOfAttempt(note, site.clock.tick()))
    shown = [{"code": note.code, "detail": note.detail}]
    assert (await site.http.get(job["urls"]["get"])).json()["warnings"] == shown, "from the ledger"
    assert (await site.get(job["urls"]["get"]))["warnings"] == shown, "from the view"
    history = (await site.get(job["urls"]["history"]))["results"]
    assert [each["data"]["detail"] for each in history if each["type"] == "job.warned"] == [note.detail]


@pytest.mark.parametrize(("width", "height"), [(64, 256), (256, 64), (1, 64)])
async def test_a_picture_that_is_cut_is_said_and_how_it_fits_is_a_choice(site: Site, width: int, height: int) -> None:
    source = await a_picture(site, width, height)
    reference = {"type": "composition", "source": source, "strength": 0.5}
    cut = await site.submit(references=[reference])
    assert (cut["params"]["fit"], codes(cut)) == ("crop", ["picture_cropped"])
    for fit in ("pad", "stretch"):
        whole = await site.submit(references=[reference], params={"fit": fit})
        assert (whole["params"]["fit"], codes(whole)) == (fit, [])
        inputs = await site.get(whole["urls"]["inputs"])
        assert {"name": "fit", "value": fit, "depends_on": []} in inputs["inputs"]


async def test_a_first_frame_that_is_cut_is_said(site: Site) -> None:
    source = await a_picture(site, 64, 256)
    job = await site.submit(job_type="video_fast", quantity=1, media={"image": source})
    assert (job["task"], codes(job)) == ("i2v", ["picture_cropped"])


async def test_how_a_picture_fits_means_nothing_without_one(site: Site) -> None:
    job = await site.submit()
    assert "fit" not in job["params"]
    body = {"job_type": "sdxl_image_fast", "prompt": "a fox", "params": {"fit": "pad"}}
    assert "only with a picture" in problems(await site.http.post("/v1/jobs", json=body))["params.fit"]


@pytest.mark.parametrize(("width", "height"), [(100, 100), (1920, 1080), (96, 72)])
async def test_a_video_that_the_model_cannot_go_on_from_is_refused_at_once(site: Site, width: int, height: int) -> None:
    told = problems(await extending(site, await a_video(site, width, height), frames=5, steps=1))
    assert f"is {width} x {height}" in told["media.video"]


async def test_a_video_that_goes_on_decides_its_size_and_rate(site: Site) -> None:
    source = await a_video(site, 96, 96)
    told = problems(await extending(site, source, width=192, height=64, fps=30, frames=5, steps=1))
    assert set(told) == {"params.width", "params.height", "params.fps"}
    wide = await a_video(site, 192, 64, fps=30)
    answer = await extending(site, wide, frames=5, steps=1)
    assert answer.status_code == 202, answer.text
    params = answer.json()["params"]
    assert {name: params[name] for name in ("width", "height", "fps")} == {"width": 192, "height": 64, "fps": 30}
    inputs = await site.get(answer.json()["urls"]["inputs"])
    values = {each["name"]: each["value"] for each in inputs["inputs"]}
    assert {name: values[name] for name in ("width", "height", "fps")} == {"width": 192, "height": 64, "fps": 30}
    assert inputs["skipped"] == []
    again = await extending(site, wide, **{name: value for name, value in values.items() if name in params})
    assert again.json()["params"] == params
