"""All ten job types, on a whole installation with the demo models: each gives the file that its catalog entry says."""

from typing import Any

import numpy as np
import pytest

from services.files.media.reading import probe, read_image, read_origin
from tests.system.installation import Installation

IMAGE_TYPES = ("image_fast", "image_high", "image7b_fast_enhanced", "image7b_high_enhanced")
VIDEO_TYPES = ("video_fast", "video_high", "video7b_fast_enhanced", "video7b_high_enhanced")


def only(job: dict[str, Any]) -> dict[str, Any]:
    """The one asset of a job that succeeded."""
    assert job["status"] == "succeeded", job["error"]
    (asset,) = job["assets"]
    return dict(asset)


@pytest.mark.parametrize("job_type", ["sdxl_image_fast", "sdxl_image_high"])
def test_an_sdxl_image(installation: Installation, job_type: str) -> None:
    job = installation.done(installation.submit(job_type=job_type, prompt="a blue heart on yellow", quantity=1))
    asset = only(job)
    assert probe(installation.content(asset)).media_type == "image/png"
    assert (asset["width"], asset["height"]) == (128, 128)
    assert job["negative_prompt"]


@pytest.mark.parametrize("job_type", IMAGE_TYPES)
def test_a_wan_image(installation: Installation, job_type: str) -> None:
    job = installation.done(
        installation.submit(job_type=job_type, prompt="a red circle moving up on black", quantity=1)
    )
    asset = only(job)
    assert read_image(installation.content(asset)).size == (96, 96)
    assert job["negative_prompt"] is None
    assert (job["enhanced_prompt"] is not None) == job_type.endswith("enhanced")


@pytest.mark.parametrize("job_type", VIDEO_TYPES)
def test_a_wan_video(installation: Installation, job_type: str) -> None:
    prompt = "a red circle moving left to right on a black background"
    job = installation.done(installation.submit(job_type=job_type, prompt=prompt, quantity=1))
    asset, content = only(job), installation.content(only(job))
    seen = probe(content)
    assert (seen.kind, seen.media_type, seen.frames, seen.fps) == ("video", "video/mp4", 17, 8)
    assert (asset["width"], asset["height"], asset["kind"]) == (96, 96, "video")
    assert read_origin(content)["Job"] == job["id"]
    if job_type.endswith("enhanced"):
        assert job["enhanced_prompt"].startswith(prompt)
        assert job["prompt"] == prompt


def test_a_video_from_a_picture_and_one_that_goes_on(installation: Installation) -> None:
    picture = only(
        installation.done(installation.submit(job_type="image_fast", prompt="a red circle on black", quantity=1))
    )
    begun = installation.done(
        installation.submit(
            job_type="video_fast",
            prompt="a red circle moving left to right on black",
            media={"image": f"asset:{picture['id']}"},
            quantity=1,
        )
    )
    assert begun["task"] == "i2v"
    first = only(begun)
    longer = installation.done(
        installation.submit(
            job_type="video_fast",
            prompt="a red circle moving right to left on black",
            media={"video": f"asset:{first['id']}"},
            quantity=1,
        )
    )
    assert (longer["task"], longer["parent_id"]) == ("extend", begun["id"])
    assert probe(installation.content(only(longer))).frames == 17 + 16


def test_a_composition_pulls_the_picture_to_it(installation: Installation) -> None:
    guide = only(installation.done(installation.submit(prompt="a large red circle on a white background", quantity=1)))
    other = {"prompt": "a small green square on a white background", "quantity": 1, "seed": 5}
    reference = {"type": "composition", "source": f"asset:{guide['id']}", "strength": 1.0}
    guided = installation.done(installation.submit(**other, references=[reference]))
    assert (guided["task"], guided["references"]) == ("i2i", [reference])
    free = installation.done(installation.submit(**other))

    def apart(job: dict[str, Any]) -> float:
        """How far its picture is from the guide, as a mean over colours of all pixels."""
        pictures = [
            np.asarray(read_image(installation.content(asset)), dtype=np.float64) for asset in (only(job), guide)
        ]
        return float(np.abs(pictures[0] - pictures[1]).mean())

    assert apart(guided) < apart(free) / 2
