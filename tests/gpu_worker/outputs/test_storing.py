"""A file is written once, says where it comes from, and is the same whichever attempt writes it."""

import hashlib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from api.cli.remote.origins import GivenFile
from domain.recipes.recipe import InputFile, Kind, Recipe, Reference, Task, asset_id
from gpu_worker.engines import Rendered, RenderedImage, RenderedVideo
from gpu_worker.outputs.encode import BrokenFile
from gpu_worker.outputs.storing import store
from services.files.blobs import Blobs
from services.files.media.reading import read_origin
from services.messaging.wire import Output, WorkOrder

JOB = UUID("0190a0a0-0000-7000-8000-000000000001")
IMAGE = RenderedImage(0, Image.effect_noise((32, 32), 80).convert("RGB"), 1)
VIDEO = RenderedVideo(0, np.stack([np.asarray(IMAGE.image.rotate(angle)) for angle in (0, 90, 180)]), 8.0, 1)
RECIPE = Recipe(
    job_type="video_fast",
    model="wan-demo",
    task=Task.TEXT_TO_VIDEO,
    prompt="日本の猫 «café»",
    negative_prompt="fog",
    params={"steps": 2, "shift": 5.0, "solver": "unipc"},
    seeds=(7, 8),
    references=(Reference(type="style", source="media:1", strength=0.5),),
    files={"media:1": InputFile(kind="image", media_type="image/png", sha256="a" * 64, path="uploads/somebody/1.png")},
)


def an_order(kind: Kind, attempt: int = 1) -> tuple[WorkOrder, Output]:
    extension = "png" if kind is Kind.IMAGE else "mp4"
    output = Output(index=1, seed=8, kind=kind, path=f"bucket/somebody/{JOB}_1.{extension}")
    return WorkOrder(
        job_id=JOB, owner="somebody", attempt=attempt, pool="wan", recipe=RECIPE, outputs=(output,)
    ), output


def found(folder: Path, content: bytes) -> GivenFile:
    """What a file of this content says, whatever it is called."""
    file = folder / "found"
    file.write_bytes(content)
    return GivenFile.read(file)


@pytest.mark.parametrize("rendered", [IMAGE, VIDEO], ids=["a picture", "a video"])
def test_each_attempt_writes_the_same_file_and_the_first_one_stays(rendered: Rendered) -> None:
    kind = Kind.IMAGE if rendered is IMAGE else Kind.VIDEO
    first, elsewhere = Blobs("memory:///"), Blobs("memory:///")
    stored = store(first, *an_order(kind), rendered, "a revision")
    again = store(first, *an_order(kind, attempt=2), rendered, "a revision")
    alone = store(elsewhere, *an_order(kind, attempt=2), rendered, "a revision")
    assert replace(stored, store_ms=0) == replace(again, store_ms=0) == replace(alone, store_ms=0)
    content = first.get(an_order(kind)[1].path)
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (stored.sha256, stored.bytes)


def test_what_an_earlier_attempt_left_is_what_gets_described() -> None:
    blobs = Blobs("memory:///")
    stored = store(blobs, *an_order(Kind.VIDEO), VIDEO, "a revision")
    other = RenderedVideo(0, VIDEO.frames[::-1], 8.0, 1)
    assert store(blobs, *an_order(Kind.VIDEO, attempt=2), other, "a revision").picture == stored.picture


def test_a_broken_file_of_an_earlier_attempt_is_named() -> None:
    blobs = Blobs("memory:///")
    order, output = an_order(Kind.VIDEO)
    blobs.put_once(output.path, b"half a video")
    with pytest.raises(BrokenFile, match=f"An earlier attempt left a broken file at {output.path}"):
        store(blobs, order, output, VIDEO, "a revision")


@pytest.mark.parametrize("rendered", [IMAGE, VIDEO], ids=["a picture", "a video"])
def test_a_file_says_its_job_its_asset_and_all_that_decided_it(rendered: Rendered) -> None:
    blobs = Blobs("memory:///")
    order, output = an_order(Kind.IMAGE if rendered is IMAGE else Kind.VIDEO)
    store(blobs, order, output, rendered, "a revision")
    origin = read_origin(blobs.get(output.path))
    assert origin["Job"] == str(JOB)
    assert origin["Asset"] == str(asset_id(JOB, 1))
    assert (origin["Index"], origin["Seed"], origin["Model"]) == ("1", "8", "wan-demo")
    assert (origin["Prompt"], origin["Negative prompt"], origin["Solver"]) == (RECIPE.prompt, "fog", "unipc")
    assert origin["Recipe"] == RECIPE.canonical()
    assert origin["Recipe fingerprint"] == RECIPE.fingerprint() == hashlib.sha256(origin["Recipe"].encode()).hexdigest()
    assert "somebody" not in str(origin), "a file that is passed on names no owner and no path of the object store"


@pytest.mark.parametrize("rendered", [IMAGE, VIDEO], ids=["a picture", "a video"])
def test_a_parameter_overwrites_nothing_that_the_file_says_of_itself(tmp_path: Path, rendered: Rendered) -> None:
    blobs = Blobs("memory:///")
    order, output = an_order(Kind.IMAGE if rendered is IMAGE else Kind.VIDEO)
    names = ["index", "job", "asset", "model", "recipe", "software", "title", "encoder", "comment", "warning", "steps"]
    params = {name: f"of the {name}" for name in names}
    recipe = RECIPE.model_copy(update={"params": params})
    store(blobs, order.model_copy(update={"recipe": recipe}), output, rendered, "a revision")
    content = blobs.get(output.path)
    origin = read_origin(content)
    assert (origin["Job"], origin["Asset"], origin["Index"]) == (str(JOB), str(asset_id(JOB, 1)), "1")
    assert (origin["Model"], origin["Recipe"], origin["Software"]) == ("wan-demo", recipe.canonical(), "Darkroom")
    assert origin["Steps"] == "of the steps"
    assert {name: origin[f"Parameter {name}"] for name in names if name != "steps"} == {
        name: text for name, text in params.items() if name != "steps"
    }
    given = found(tmp_path, content)
    assert (given.job_id, given.asset_id) == (JOB, asset_id(JOB, 1))


@pytest.mark.parametrize("rendered", [IMAGE, VIDEO], ids=["a picture", "a video"])
def test_a_minimal_origin_leads_to_the_job_and_says_no_prompt(tmp_path: Path, rendered: Rendered) -> None:
    blobs = Blobs("memory:///")
    order, output = an_order(Kind.IMAGE if rendered is IMAGE else Kind.VIDEO)
    store(blobs, order, output, rendered, "a revision", "minimal")
    content = blobs.get(output.path)
    origin = {name: text for name, text in read_origin(content).items() if name[0].isupper()}
    assert origin == {
        "Software": "Darkroom",
        "Job": str(JOB),
        "Asset": str(asset_id(JOB, 1)),
        "Index": "1",
        "Recipe fingerprint": RECIPE.fingerprint(),
    }
    for secret in (RECIPE.prompt, "fog", "unipc", "wan-demo", "a revision"):
        assert secret.encode() not in content
    assert found(tmp_path, content).job_id == JOB
