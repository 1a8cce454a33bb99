"""`darkroom show FILE` against a server that knows the file's job, knows another one, or is not there."""

import asyncio
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from domain.commands import ReportAssetCompleted
from domain.json_type import Json
from domain.recipes.recipe import Kind, Recipe
from gpu_worker.engines import RenderedImage, RenderedVideo
from gpu_worker.outputs.encode import encode
from gpu_worker.outputs.storing import origin_of
from services.files.decoders.bounded import remuxed_mp4
from services.files.media.reading import read_origin
from services.messaging.wire import Output, WorkOrder
from tests.api.cli.test_cli import assert_one_line, darkroom, free_port
from tests.api.serving import TOKEN, AServer, Site, completed_with

IMAGE = Image.effect_noise((32, 24), 80).convert("RGB")
FRAMES = np.stack([np.asarray(IMAGE.rotate(angle)) for angle in (0, 90, 180)])


def origin(job: Json, index: int) -> dict[str, str | int]:
    """What a worker writes into a file of this job."""
    recipe = Recipe(
        job_type=job["job_type"],
        model=job["model"],
        task=job["task"],
        prompt=job["prompt"],
        negative_prompt=job["negative_prompt"],
        params=job["params"],
        seeds=tuple(job["seed"] + n for n in range(job["quantity"])),
    )
    output = Output(index=index, seed=job["seed"] + index, kind=Kind.IMAGE, path="here")
    order = WorkOrder(job_id=job["id"], owner="admin", attempt=1, pool="sdxl", recipe=recipe, outputs=(output,))
    return origin_of(order, output, "a revision")


@dataclass(frozen=True)
class Made:
    """A job, and its only file."""

    job: Json
    content: bytes


@dataclass
class Desk:
    """A job whose file is a picture and one whose file is a video, and a command line that knows the server."""

    site: Site
    server: AServer
    folder: Path

    async def picture(self) -> Made:
        return await self._made(Kind.IMAGE, RenderedImage(0, IMAGE, 1), job_type="sdxl_image_fast")

    async def video(self) -> Made:
        return await self._made(Kind.VIDEO, RenderedVideo(0, FRAMES, 8.0, 1), job_type="video_fast", params={})

    async def _made(self, kind: Kind, rendered: RenderedImage | RenderedVideo, **asked: Any) -> Made:
        job = await self.site.submit(**asked, quantity=1)
        await self.site.start(job)
        content, picture = encode(rendered, kind, origin(job, 0))
        facts = {"pixels_sha256": picture.pixels_sha256, "media_type": picture.media_type}
        completed = completed_with(content, 1).model_copy(update=facts)
        await self.site.report(job, ReportAssetCompleted(0, completed, self.site.clock.tick()))
        await asyncio.to_thread(self.site.project)
        return Made(job, content)

    async def show(self, content: bytes, *arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[str]":
        file = self.folder / "found"
        file.write_bytes(content)
        where = ["--url", url or self.server.url, "--token", TOKEN]
        return await asyncio.to_thread(
            darkroom, "show", str(file), *where, *arguments, data_dir=self.folder / "no-data-folder"
        )


@pytest.fixture
def desk(site: Site, server: AServer, tmp_path: Path) -> Desk:
    """See `Desk`."""
    return Desk(site, server, tmp_path)


async def test_a_file_found_anywhere_leads_back_to_its_job(desk: Desk) -> None:
    for made in (await desk.picture(), await desk.video()):
        shown = await desk.show(made.content)
        assert (shown.returncode, shown.stderr) == (0, ""), shown.stderr
        assert f"job       {made.job['id']}" in shown.stdout
        assert f"prompt    {made.job['prompt']}" in shown.stdout
        assert "pixels    unchanged since " in shown.stdout
        assert ", the very file" in shown.stdout


async def test_a_file_says_all_of_it_as_json(desk: Desk) -> None:
    made = await desk.video()
    job, video = made.job, made.content
    shown = await desk.show(video, "--json")
    document: dict[str, Any] = json.loads(shown.stdout)
    assert document["job"]["id"] == document["origin"]["Job"] == job["id"]
    assert document["pixels"] == "unchanged"
    assert document["problem"] is None
    assert document["sha256"] == document["completed"]["data"]["sha256"] == hashlib.sha256(video).hexdigest()
    assert document["pixels_sha256"] == document["completed"]["data"]["pixels_sha256"]
    recipe = document["origin"]["Recipe"]
    assert json.loads(recipe)["prompt"] == job["prompt"]
    assert hashlib.sha256(recipe.encode()).hexdigest() == document["origin"]["Recipe fingerprint"]
    assert not {"major_brand", "encoder"} & set(document["origin"])


def written_again(picture: bytes, image: Image.Image) -> bytes:
    """What another program may make of a picture of ours: other compression, the texts kept."""
    texts = PngImagePlugin.PngInfo()
    for key, text in read_origin(picture).items():
        texts.add_text(key, text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=texts, compress_level=9)
    return file.getvalue()


async def test_a_file_that_was_written_again_has_the_same_pixels(desk: Desk) -> None:
    picture, video = (await desk.picture()).content, (await desk.video()).content
    texts = {key: text for key, text in read_origin(video).items() if key[0].isupper()}
    for content in (written_again(picture, IMAGE), remuxed_mp4(video, texts | {"Comment": "moved"})):
        shown = await desk.show(content)
        assert shown.returncode == 0
        assert "in a file that was written again" in shown.stdout


async def test_pixels_that_were_changed_are_noticed(desk: Desk) -> None:
    made = await desk.picture()
    retouched = IMAGE.copy()
    retouched.putpixel((3, 3), (255, 0, 0))
    shown = await desk.show(written_again(made.content, retouched))
    assert shown.returncode == 1
    assert "pixels    CHANGED" in shown.stdout
    assert made.job["id"] in shown.stdout


async def test_a_job_that_the_server_does_not_know_is_shown_from_the_file(desk: Desk) -> None:
    job = (await desk.picture()).job
    stranger = str(uuid4())
    said = origin(job, 0) | {"Job": stranger}
    shown = await desk.show(encode(RenderedImage(0, IMAGE, 1), Kind.IMAGE, said)[0])
    assert shown.returncode == 1
    assert f"knows no job {stranger}" in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert f"  Prompt: {job['prompt']}" in shown.stdout
    assert "unknown whether they are unchanged" in shown.stdout


async def test_an_asset_that_its_job_does_not_have_is_said(desk: Desk) -> None:
    job = (await desk.picture()).job
    said = origin(job, 0) | {"Asset": str(UUID(int=7))}
    shown = await desk.show(encode(RenderedImage(0, IMAGE, 1), Kind.IMAGE, said)[0])
    assert shown.returncode == 1
    assert f"has no file of an asset {UUID(int=7)}" in shown.stderr
    assert job["id"] in shown.stdout


async def test_without_a_server_the_file_speaks_for_itself(desk: Desk) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    picture = await desk.picture()
    for made in (picture, await desk.video()):
        shown = await desk.show(made.content, url=url)
        assert shown.returncode == 1
        assert f"{url} cannot be reached" in shown.stderr
        assert "what the file itself says" in shown.stderr
        assert f"  Job: {made.job['id']}" in shown.stdout
        assert "  Recipe fingerprint: " in shown.stdout
    document = json.loads((await desk.show(picture.content, "--json", url=url)).stdout)
    assert (document["job"], document["pixels"], document["origin"]["Seed"]) == (None, "unknown", "42")
    assert "cannot be reached" in document["problem"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: encode(RenderedImage(0, IMAGE, 1), Kind.IMAGE, {})[0], "does not say which job it is of"),
        (lambda: encode(RenderedVideo(0, FRAMES, 8.0, 1), Kind.VIDEO, {})[0], "does not say which job it is of"),
        (lambda: encode(RenderedImage(0, IMAGE, 1), Kind.IMAGE, {"Job": "1", "Asset": "2"})[0], "does not say"),
        (lambda: b"no picture at all", "is no picture or video of Darkroom"),
        (lambda: b"", "is no picture or video of Darkroom"),
    ],
    ids=["a picture", "a video", "no ids", "a text", "empty"],
)
def test_a_file_of_nobody_is_one_line_and_status_1(content: Callable[[], bytes], words: str, tmp_path: Path) -> None:
    (tmp_path / "found.png").write_bytes(content())
    shown = darkroom("show", str(tmp_path / "found.png"), data_dir=tmp_path)
    assert shown.returncode == 1
    assert words in shown.stderr
    assert str(tmp_path / "found.png") in shown.stderr
    assert_one_line(shown)
