"""The Wan engine, on a tiny model: tasks, seeds, frames, memory, cancel, and folders that cannot do what is asked."""

import io
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from domain.recipes.recipe import Kind, Task
from gpu_worker.engines import (
    GivenReference,
    InvalidRequest,
    MemoryLowered,
    ModelUnavailable,
    OutOfMemory,
    RenderCanceled,
    RenderedImage,
    RenderedVideo,
    RenderRequest,
    Warned,
)
from gpu_worker.engines.diffusers.fitting import fitted
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.wan import WanEngine, from_folder
from gpu_worker.engines.diffusers.wan_request import plan_of
from gpu_worker.outputs.encode import encode
from gpu_worker.outputs.mp4 import encode_mp4
from gpu_worker.residency import Residency
from services.files.decoders.pixels import read_sound
from services.files.media.reading import probe, read_video
from services.files.media.sounds import Sound
from tests.gpu_worker.tiny_wan import build_tiny_wan_i2v

STEPS, FRAMES, FPS = 2, 5, 8.0
PICTURE = Image.effect_noise((64, 48), 90).convert("RGB")


def a_request(*seeds: int, **changes: Any) -> RenderRequest:
    params = {"frames": FRAMES, "fps": FPS} | changes.pop("params", {})
    fields: dict[str, Any] = {
        "prompt": "a red ball rolls to the right",
        "negative_prompt": None,
        "width": 32,
        "height": 32,
        "steps": STEPS,
        "guidance": 5.0,
        "seeds": seeds or (1,),
        "task": Task.TEXT_TO_VIDEO,
        "kind": Kind.VIDEO,
        "params": params,
    }
    return RenderRequest(**(fields | changes))


def an_image(*seeds: int, **changes: Any) -> RenderRequest:
    return a_request(*seeds, task=Task.TEXT_TO_IMAGE, kind=Kind.IMAGE, **changes)


def from_picture(*seeds: int, **changes: Any) -> RenderRequest:
    return a_request(*seeds, **({"task": Task.IMAGE_TO_VIDEO, "image": PICTURE} | changes))


def a_video(frames: int = 5, width: int = 48, height: int = 32) -> bytes:
    """A finished MP4 of ours, at 12 frames a second: a grey ramp that brightens."""
    ramp = np.linspace(40, 200, width, dtype=np.uint8)[None, None, :, None]
    pixels = (
        np.broadcast_to(ramp, (frames, height, width, 3)) + (4 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    )
    return encode(RenderedVideo(0, pixels, 12.0, 1), Kind.VIDEO, {})[0]


def never() -> bool:
    return False


def everything(engine: WanEngine, request: RenderRequest) -> list[Any]:
    return list(engine.render(request, on_step=lambda done, total: None, canceled=never))


def videos(engine: WanEngine, request: RenderRequest) -> list[np.ndarray]:
    rendered = [one for one in everything(engine, request) if not isinstance(one, Warned)]
    assert all(isinstance(video, RenderedVideo) and video.render_ms > 0 for video in rendered)
    return [video.frames for video in rendered]


def test_words_become_a_video_for_each_seed(wan: WanEngine) -> None:
    steps: list[tuple[int, int]] = []
    rendered = list(wan.render(a_request(1, 2), on_step=lambda *step: steps.append(step), canceled=never))
    assert [video.position for video in rendered] == [0, 1]
    assert [(video.frames.shape, video.frames.dtype, video.fps) for video in rendered] == [
        ((FRAMES, 32, 32, 3), np.uint8, FPS)
    ] * 2
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_same_seed_renders_the_same_pixels_whatever_its_index_and_another_seed_others(wan: WanEngine) -> None:
    one, two = videos(wan, a_request(1, 2))
    (again,) = videos(wan, a_request(2))
    assert np.array_equal(two, again)
    assert not np.array_equal(one, two)


def test_an_image_is_one_frame_of_the_requested_size(wan: WanEngine) -> None:
    one, two = everything(wan, an_image(1, 2, width=48))
    assert isinstance(one, RenderedImage)
    assert (one.image.mode, one.image.size, two.position) == ("RGB", (48, 32), 1)
    assert one.image.tobytes() != two.image.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a blue cube"},
        {"negative_prompt": "blurry"},
        {"params": {"shift": 1.0}},
        {"params": {"solver": "dpm++"}},
        {"guidance": 1.0},
        {"steps": 3},
    ],
    ids=str,
)
def test_what_a_recipe_says_decides_the_pixels(wan: WanEngine, changes: dict[str, Any]) -> None:
    assert not np.array_equal(videos(wan, a_request(1))[0], videos(wan, a_request(1, **changes))[0])


def test_shift_and_solver_have_the_defaults_of_the_catalog(wan: WanEngine) -> None:
    named = a_request(1, params={"shift": 5.0, "solver": "unipc"})
    assert np.array_equal(videos(wan, a_request(1))[0], videos(wan, named)[0])


def test_a_video_starts_from_the_picture(wan: WanEngine) -> None:
    """What stays is the first latent: the picture as the autoencoder gives it back, whatever the words and the seed."""
    bright, dark = Image.new("RGB", (64, 48), "white"), Image.new("RGB", (64, 48), "black")
    first = {name: videos(wan, from_picture(image=image))[0][0] for name, image in (("b", bright), ("d", dark))}
    other = videos(wan, from_picture(9, image=bright, prompt="something else"))[0]
    assert np.array_equal(first["b"], other[0])
    assert not np.array_equal(first["b"], first["d"])
    assert not np.array_equal(other[0], other[-1])


def test_a_video_goes_on_from_its_last_frame_and_the_old_frames_stay(wan: WanEngine) -> None:
    video = a_video(frames=6)
    old, _ = read_video(video, frames_max=6)
    (extended,) = everything(wan, a_request(task=Task.EXTEND, video=video))
    assert extended.frames.shape == (6 + FRAMES - 1, 32, 48, 3), "its size is the old one's; no frame is there twice"
    assert extended.fps == 12.0
    assert np.array_equal(extended.frames[:6], old)
    alone = from_picture(width=48, image=Image.fromarray(old[-1]))
    assert np.array_equal(extended.frames[6:], videos(wan, alone)[0][1:])


def with_sound(frames: int = 6, tracks: int = 1) -> bytes:
    """A video of 12 frames a second with a tone of 440 Hz, of which each further track holds another one."""
    content = encode_mp4(np.zeros((frames, 32, 48, 3), np.uint8), 12.0, {}, tone(frames / 12))
    if tracks == 1:
        return content
    file = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(file, "w", format="mp4") as target:
        kept: list[Any] = [target.add_stream_from_template(source.streams.video[0])]
        kept += [target.add_stream_from_template(source.streams.audio[0]) for _ in range(tracks)]
        for packet in source.demux():
            for stream in kept[:1] if packet.stream.type == "video" else kept[1:]:
                if packet.dts is not None:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                    copy.time_base, copy.stream = packet.time_base, stream
                    target.mux(copy)
    return file.getvalue()


def tone(seconds: float, rate: int = 44_100) -> Sound:
    """440 Hz."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return Sound(wave.astype(np.float32)[None], rate, "mono")


def test_a_video_that_goes_on_keeps_its_sound_and_is_silent_where_it_is_new(wan: WanEngine) -> None:
    video = with_sound()
    for _ in range(3):  # and so do its own continuations
        (extended,) = everything(wan, a_request(task=Task.EXTEND, video=video))
        video = encode(extended, Kind.VIDEO, {})[0]
        sound, others = read_sound(video)
        assert sound is not None
        assert (sound.rate, sound.layout, others) == (44_100, "mono", 0)
        old = sound.samples[0, 2_000 : 22_050 - 2_000]
        assert np.abs(old - tone(0.5).samples[0, 2_000 : 22_050 - 2_000]).max() < 0.05
        assert np.abs(sound.samples[0, 22_050 + 2_500 :]).max() < 0.01
        assert sound.samples.shape[1] / sound.rate == pytest.approx(extended.frames.shape[0] / 12, abs=0.05)


def blocks(width: int, height: int, frames: int = 6) -> np.ndarray:
    """A red block and a blue one on grey, with edges at odd and even columns: [frames, height, width, 3]."""
    pixels = np.full((frames, height, width, 3), 200, np.uint8)
    pixels[:, height // 4 : height // 2, width // 4 : width // 2 - 1] = (210, 40, 40)
    pixels[:, height // 2 :, width // 2 + 1 : width - 6] = (40, 60, 200)
    return pixels


def middle_of(colour: int, image: np.ndarray) -> float:
    """The column around which the block of this colour, 0 for red and 2 for blue, lies; see `blocks`."""
    height, width, _ = image.shape
    red = slice(height // 4 + 2, height // 2 - 2), slice(width // 4 - 4, width // 2 + 3)
    blue = slice(height // 2 + 2, height - 2), slice(width // 2 - 3, width - 2)
    block = image[red if colour == 0 else blue].astype(float)
    others = np.delete(block, colour, axis=-1).mean(axis=-1)
    excess = (block[..., colour] - others).clip(min=0).mean(axis=0)
    return float((excess * np.arange(excess.size)).sum() / excess.sum())


@pytest.mark.parametrize(
    ("size", "fps", "rate"), [((48, 32), 12.0, 44_100), ((64, 48), 30_000 / 1_001, 48_000), ((32, 96), 8.0, 16_000)]
)
def test_ten_extensions_in_a_row_keep_colour_size_rate_and_sound(
    wan: WanEngine, size: tuple[int, int], fps: float, rate: int
) -> None:
    first = blocks(*size)
    seconds = len(first) / fps
    video = encode_mp4(first, fps, {}, tone(seconds, rate))
    for number in range(1, 11):
        (extended,) = everything(wan, a_request(number, task=Task.EXTEND, video=video, steps=1))
        video = encode(extended, Kind.VIDEO, {})[0]
        found = probe(video)
        assert (found.width, found.height, found.frames) == (*size, len(first) + number * (FRAMES - 1))
        assert found.fps == pytest.approx(fps, rel=1e-6)
        sound, others = read_sound(video)
        assert sound is not None
        assert (sound.rate, sound.layout, others) == (rate, "mono", 0)
        assert sound.samples.shape[1] / rate == pytest.approx(len(extended.frames) / fps, abs=2_048 / rate)
    last, _ = read_video(video, frames_max=99)
    for frame in (0, len(first) - 1):
        shown = last[frame]
        assert np.abs(shown.mean(axis=(0, 1)) - first[frame].mean(axis=(0, 1))).max() < 1.5, "no colour fades"
        assert abs(middle_of(0, shown) - middle_of(0, first[frame])) < 0.2, "red stays where it is"
        assert abs(middle_of(2, shown) - middle_of(2, first[frame])) < 0.2, "and so does blue"
    heard = sound.samples[0, : round(seconds * rate)]
    asked = tone(seconds, rate).samples[0]
    inner = slice(len(asked) // 10, -len(asked) // 10)
    assert float(np.sqrt(np.mean((heard[inner] - asked[inner]) ** 2))) < 0.02, "neither quieter nor later"
    assert np.abs(sound.samples[0, round((seconds + 0.1) * rate) :]).max() < 0.02, "silent where it is new"


def test_a_sound_that_cannot_be_kept_is_reported(wan: WanEngine) -> None:
    warned, video = everything(wan, a_request(task=Task.EXTEND, video=with_sound(tracks=2)))
    assert (warned.code, "Of the 2 sounds" in warned.detail) == ("sound_tracks_lost", True)
    assert video.sound is not None


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_words_after_the_limit_are_reported(wan: WanEngine, guidance: float) -> None:
    """The tiny tokenizer has a token for each character."""
    long = "x" * 600 + " a blue star"
    told = [
        one
        for one in everything(wan, an_image(prompt=long, negative_prompt=long, guidance=guidance, steps=1))
        if isinstance(one, Warned)
    ]
    assert [each.code for each in told] == ["prompt_cut_off", "negative_prompt_cut_off"][: 2 if guidance > 1 else 1]
    assert all("a blue star" in each.detail and "512 tokens" in each.detail for each in told)
    (alone,) = everything(wan, an_image(prompt="x y " * 100, steps=1))
    assert isinstance(alone, RenderedImage)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_first_frame_of_another_shape_is_fitted_as_asked(wan: WanEngine, fit: str) -> None:
    tall = Image.new("RGB", (32, 128), "white")
    tall.paste("red", (0, 0, 32, 32))
    plan = plan_of(from_picture(image=tall, params={"fit": fit}), wan._abilities)
    assert plan.start is not None
    assert np.array_equal(np.asarray(plan.start), np.asarray(fitted(tall, 32, 32, fit)))
    with pytest.raises(InvalidRequest, match="one of crop, pad, stretch, but is 'squeeze'"):
        plan_of(from_picture(params={"fit": "squeeze"}), wan._abilities)


def test_a_cancel_stops_after_the_step_and_the_engine_goes_on(wan: WanEngine) -> None:
    steps: list[tuple[int, int]] = []
    request = a_request(1, 2, steps=10)
    with pytest.raises(RenderCanceled):
        list(wan.render(request, on_step=lambda *step: steps.append(step), canceled=lambda: len(steps) >= 2))
    assert steps == [(1, 20), (2, 20)]
    assert len(videos(wan, a_request(1))) == 1


def test_a_cancel_between_outputs_keeps_those_that_exist(wan: WanEngine) -> None:
    kept: list[Any] = []
    outputs = wan.render(a_request(1, 2), on_step=lambda *_: None, canceled=lambda: bool(kept))
    kept.append(next(outputs))
    with pytest.raises(RenderCanceled):
        next(outputs)
    assert [video.position for video in kept] == [0]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (a_request(params={"frames": 6}), r"have to be 4k \+ 1 from 1 on, as 81; not 6"),
        (a_request(params={"frames": 0}), "not 0"),
        (a_request(params={"frames": "many"}), "frames have to be a number, but are 'many'"),
        (a_request(params={"solver": "euler"}), "one of unipc, dpm[+][+], but is 'euler'"),
        (a_request(params={"shift": 0}), "above 0"),
        (a_request(params={"fps": -1}), "above 0"),
        (a_request(width=40), "multiple of 16 pixels .* but they are 40 x 32"),
        (a_request(height=0), "32 x 0"),
        (a_request(steps=0), "from 1 to 1000"),
        (a_request(steps=1001), "from 1 to 1000"),
        (a_request(task=Task.IMAGE_TO_IMAGE), "cannot do i2i"),
        (a_request(task=Task.IMAGE_TO_VIDEO), "i2v needs a picture to start from"),
        (a_request(task=Task.EXTEND), "extend needs a video to go on from"),
        (a_request(task=Task.EXTEND, video=b"no video"), "The video that should go on cannot be used"),
        (a_request(task=Task.EXTEND, video=a_video(width=40)), "but they are 40 x 32"),
        (a_request(task=Task.EXTEND, video=a_video(), params={"frames": 1}), "from 5 on"),
        (from_picture(kind=Kind.IMAGE), "i2v makes no image"),
        (a_request(references=(GivenReference("style", PICTURE, 0.5),)), "take no references"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_model_cannot_make_is_an_invalid_request(
    wan: WanEngine, request_: RenderRequest, sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        everything(wan, request_)


def change_index(folder: Path, **changes: Any) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


def test_a_model_of_words_alone_refuses_pictures_and_videos(wan_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t2v"
    shutil.copytree(wan_folder, folder)
    change_index(folder, expand_timesteps=False)
    engine = WanEngine.load(str(folder), device="cpu")
    assert len(videos(engine, a_request(1))) == 1
    for request in (from_picture(), a_request(task=Task.EXTEND, video=a_video())):
        with pytest.raises(InvalidRequest, match=f"cannot do {request.task}: .* choose a model that takes a picture"):
            everything(engine, request)


def test_a_model_that_needs_a_picture_refuses_words_alone(tmp_path: Path) -> None:
    build_tiny_wan_i2v(tmp_path / "i2v")
    engine = WanEngine.load(str(tmp_path / "i2v"), device="cpu")
    assert videos(engine, from_picture())[0].shape == (FRAMES, 32, 32, 3)
    for request in (a_request(), an_image()):
        with pytest.raises(InvalidRequest, match="always starts from a picture"):
            everything(engine, request)


class Memory:
    """The transformer runs out of memory so many times, as torch does."""

    def __init__(self, engine: WanEngine, times: int) -> None:
        self.left = times
        engine._from_words.transformer.register_forward_pre_hook(self._forward)

    def _forward(self, *_: Any) -> None:
        if self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nOf the allocated memory …")


def test_out_of_memory_goes_on_in_less_and_says_so(wan: WanEngine) -> None:
    (whole,) = videos(wan, a_request(1))
    memory = Memory(wan, times=1)
    note, video = everything(wan, a_request(1))
    assert note == MemoryLowered("vae_tiling", "CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert np.array_equal(video.frames, whole), "a frame smaller than a tile is the same"
    assert wan._vae.use_tiling
    memory.left = 1
    with pytest.raises(OutOfMemory, match="5 frames of 32 x 32 pixels do not fit into the memory of cpu"):
        everything(wan, a_request(1))
    assert len(everything(wan, a_request(1))) == 1


def test_tiles_fit_together(wan: WanEngine) -> None:
    request = a_request(1, width=320, height=288, params={"frames": 1}, steps=1)
    (whole,) = videos(wan, request)
    Memory(wan, times=1)
    _, tiled = everything(wan, request)
    assert np.abs(tiled.frames.astype(int) - whole).mean() < 3


def test_the_steps_of_a_call_that_broke_off_are_reported_again(wan: WanEngine) -> None:
    Memory(wan, times=0)
    steps: list[tuple[int, int]] = []
    broken = iter([torch.OutOfMemoryError("CUDA out of memory.")])

    def decoder_fails_once(*_: Any) -> None:
        for error in broken:
            raise error

    wan._vae.decoder.register_forward_pre_hook(decoder_fails_once)
    rendered = list(wan.render(a_request(1, 2), on_step=lambda *step: steps.append(step), canceled=never))
    assert [type(one).__name__ for one in rendered] == ["MemoryLowered", "RenderedVideo", "RenderedVideo"]
    assert steps == [(1, 4), (2, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_error_that_is_no_lack_of_memory_is_not_tried_again(wan: WanEngine) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    wan._from_words.transformer.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes"):
        everything(wan, a_request(1))


@pytest.mark.parametrize("prompt", ["", "word " * 2000, "日本 עברית 🎈 \u0301\u2028", "</s><pad>", "\t\n "])
def test_any_prompt_renders(wan: WanEngine, prompt: str) -> None:
    assert len(videos(wan, a_request(prompt=prompt, negative_prompt=prompt, steps=1, params={"frames": 1}))) == 1


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_few_steps_are_so_many_steps(wan: WanEngine, solver: str, steps: int) -> None:
    told: list[tuple[int, int]] = []
    request = an_image(steps=steps, params={"solver": solver})
    list(wan.render(request, on_step=lambda *step: told.append(step), canceled=never))
    assert told == [(step, steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (shutil.rmtree, "There is no model at .*/model; give the path of a Wan folder"),
        (lambda folder: (folder / "model_index.json").unlink(), "it has no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("["), "model_index.json cannot be read"),
        (lambda folder: change_index(folder, _class_name="WanVACEPipeline"), "is WanVACEPipeline, which is not read"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "its tokenizer is missing"),
        (lambda folder: (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"), "cut off"),
        (lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "cannot be loaded: .*vae"),
    ],
)
def test_a_model_that_is_not_there_or_not_whole_is_one_sentence(
    wan_folder: Path, tmp_path: Path, harm: Callable[[Path], object], sentence: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(wan_folder, folder)
    harm(folder)
    with pytest.raises(ModelUnavailable, match=sentence) as unavailable:
        WanEngine.load(str(folder), device="cpu")
    assert str(folder) in str(unavailable.value)
    assert "\n" not in str(unavailable.value)


def test_half_precision_leaves_the_autoencoder_in_full(wan_folder: Path) -> None:
    pipeline = from_folder(wan_folder, torch.bfloat16)
    assert (pipeline.transformer.dtype, pipeline.text_encoder.dtype, pipeline.vae.dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    )
    engine = WanEngine(pipeline, "as on a GPU")
    assert videos(engine, a_request(1))[0].shape == videos(engine, from_picture())[0].shape


def test_a_folder_never_asks_the_network(wan_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*where: object, **_how: object) -> None:
        asked.append(where)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    Residency({"wan": str(wan_folder)}, "cpu").engine("wan")
    assert asked == []


def test_the_folder_decides_the_engine_and_its_revision(demo_folder: Path, wan_folder: Path) -> None:
    residency = Residency({"one": str(demo_folder), "other": str(wan_folder)}, "cpu")
    assert isinstance(residency.engine("one"), SdxlEngine)
    wan = residency.engine("other")
    assert isinstance(wan, WanEngine)
    assert wan.model_revision == WanEngine.load(str(wan_folder), device="cpu").model_revision
    assert wan.model_revision != residency.engine("one").model_revision
