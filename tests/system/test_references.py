"""References of every type from submit to file, on an installation whose SDXL of random weights has an IP-Adapter."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from services.files.media.reading import read_image
from tests.gpu_worker.tiny_ip_adapter import install
from tests.gpu_worker.tiny_sdxl import build_tiny_sdxl
from tests.system.installation import Installation


def test_style_character_and_composition_together(
    make_installation: Callable[..., Installation], tmp_path: Path
) -> None:
    build_tiny_sdxl(tmp_path / "sdxl")
    install(tmp_path / "sdxl", "both.safetensors")
    small = {"quantity": 1, "seed": 7, "prompt": "a lighthouse", "params": {"width": 64, "height": 64, "steps": 4}}
    with make_installation(DARKROOM_MODELS=f"sdxl={tmp_path / 'sdxl'}", DARKROOM_SDXL_MODEL="sdxl") as running:
        sources = [f"media:{upload(running, colour)}" for colour in ("red", "blue", "green")]
        types = ("style", "character", "composition")
        references = [
            {"type": kind, "source": source, "strength": 0.6} for kind, source in zip(types, sources, strict=True)
        ]
        guided = running.done(running.submit(**small, references=references))
        styled = running.done(running.submit(**small, references=references[:1]))
        free = running.done(running.submit(**small))
        assert [job["task"] for job in (guided, styled, free)] == ["multi", "i2i", "t2i"]
        told = [warning["code"] for warning in guided["warnings"]]
        assert told == ["character_reference", *["picture_cropped"] * 3]  # each is 96 by 64, for a square one
        pictures = [pixels(running, job) for job in (guided, styled, free)]
    assert not any(np.array_equal(one, other) for one, other in pairwise(pictures))


def upload(running: Installation, colour: str) -> str:
    """A picture of one colour; the id of its media."""
    file = io.BytesIO()
    Image.new("RGB", (96, 64), colour).save(file, "PNG")
    answer = running.request("POST", "/v1/uploads", files={"file": ("picture.png", file.getvalue())})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def pixels(running: Installation, job: dict[str, Any]) -> Any:
    """The one picture of a job that succeeded."""
    assert job["status"] == "succeeded", job["error"]
    (asset,) = job["assets"]
    return np.asarray(read_image(running.content(asset)))
