"""What a request means to a model at a provider."""

import base64
import io
from fnmatch import fnmatchcase
from typing import Any

import pytest
from PIL import Image

from domain.recipes.recipe import Kind, Task
from domain.wording.negative_prompt import negative_prompt_for
from gpu_worker.engines import GivenReference, InvalidRequest, RenderRequest
from gpu_worker.engines.hosted.provider_inputs import (
    DATA_URI_PNG_BYTES_MAX,
    TABLE,
    data_uri,
    inputs_of,
    losses_of,
    nearest_ratio,
)

IMAGE = Image.new("RGB", (32, 16), (200, 30, 30))
NOISE = Image.effect_noise((1024, 1024), 80).convert("RGB")


def asked(**changed: Any) -> RenderRequest:
    parts: dict[str, Any] = {"prompt": "a red circle", "negative_prompt": "blurred", "width": 1280, "height": 720}
    parts |= {"steps": 20, "guidance": 3.5, "seeds": (7, 8)}
    return RenderRequest(**parts | changed)


def composition(strength: float) -> GivenReference:
    return GivenReference("composition", IMAGE, strength)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "replicate:black-forest-labs/flux-schnell",
            {
                "prompt": "a red circle",
                "seed": 8,
                "aspect_ratio": "16:9",
                "num_inference_steps": 20,
                "num_outputs": 1,
                "output_format": "png",
                "go_fast": False,
            },
        ),
        (
            "replicate:stability-ai/sdxl:" + "0" * 64,
            {
                "prompt": "a red circle",
                "negative_prompt": "blurred",
                "seed": 8,
                "width": 1280,
                "height": 720,
                "num_inference_steps": 20,
                "guidance_scale": 3.5,
            },
        ),
        (
            "fal:fal-ai/flux/schnell",
            {
                "prompt": "a red circle",
                "seed": 8,
                "image_size": {"width": 1280, "height": 720},
                "num_inference_steps": 20,
                "guidance_scale": 3.5,
                "num_images": 1,
                "output_format": "png",
            },
        ),
    ],
)
def test_each_model_gets_its_own_names(source: str, expected: dict[str, object]) -> None:
    assert inputs_of(source, asked(), 1) == expected


@pytest.mark.parametrize("provider", ["replicate", "fal"])
def test_a_video_model_gets_little_and_what_its_job_type_names(provider: str) -> None:
    request = asked(
        task=Task.TEXT_TO_VIDEO,
        kind=Kind.VIDEO,
        negative_prompt=None,
        params={"width": 1280, "height": 720, "steps": 20, "guidance": 3.5, "frames": 81, "duration": "5"},
    )
    assert inputs_of(f"{provider}:someone/video", request, 0) == {
        "prompt": "a red circle",
        "seed": 7,
        "aspect_ratio": "16:9",
        "duration": "5",
    }


@pytest.mark.parametrize(
    ("source", "image", "loose"),
    [
        ("replicate:stability-ai/sdxl", "image", "prompt_strength"),
        ("fal:fal-ai/flux/dev/image-to-image", "image_url", "strength"),
    ],
)
@pytest.mark.parametrize(("strength", "freedom"), [(0.3, 0.7), (1.0, 0.05)])
def test_a_stronger_reference_leaves_less_freedom(
    source: str, image: str, loose: str, strength: float, freedom: float
) -> None:
    inputs = inputs_of(source, asked(references=(composition(strength),)), 0)
    assert inputs[loose] == freedom
    assert inputs[image] == data_uri(IMAGE)


@pytest.mark.parametrize(("source", "kind"), [("fal:someone/i2v", Kind.VIDEO), ("replicate:someone/edit", Kind.IMAGE)])
def test_a_picture_to_start_from_goes_as_a_data_uri(source: str, kind: Kind) -> None:
    inputs = inputs_of(source, asked(image=IMAGE, kind=kind), 0)
    sent = inputs["image_url" if source.startswith("fal") else "image"]
    media_type, _, text = str(sent).partition(";base64,")
    assert media_type == "data:image/png"
    assert Image.open(io.BytesIO(base64.b64decode(text))).tobytes() == IMAGE.tobytes()
    assert "prompt_strength" not in inputs


def test_a_large_picture_goes_as_a_jpeg() -> None:
    assert data_uri(NOISE).startswith("data:image/jpeg;base64,")
    assert len(data_uri(Image.new("RGB", (2048, 2048)))) < DATA_URI_PNG_BYTES_MAX


@pytest.mark.parametrize(
    ("source", "changed", "words"),
    [
        ("replicate:black-forest-labs/flux-schnell", {"image": IMAGE}, "starts from no picture"),
        ("fal:fal-ai/flux/schnell", {"references": (composition(0.5),)}, "starts from no picture"),
        ("fal:a/b", {"video": b"mp4", "kind": Kind.VIDEO}, "does not continue videos"),
        ("fal:a/b", {"references": (GivenReference("style", IMAGE, 0.5),)}, "none for style or character"),
        ("fal:a/b", {"references": (composition(0.5), composition(0.6))}, "one composition reference at most"),
        ("fal:a/b", {"references": (composition(0.5),), "image": IMAGE}, "takes one picture"),
    ],
)
def test_what_it_does_not_take_is_refused(source: str, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        inputs_of(source, asked(**changed), 0)


@pytest.mark.parametrize(
    ("size", "ratio"), [((1024, 1024), "1:1"), ((832, 480), "16:9"), ((480, 832), "9:16"), ((2048, 64), "21:9")]
)
def test_the_nearest_ratio_is_taken(size: tuple[int, int], ratio: str) -> None:
    assert nearest_ratio(*size, ("1:1", "16:9", "21:9", "3:2", "9:16")) == ratio


@pytest.mark.parametrize(
    ("source", "told"),
    [("replicate:black-forest-labs/flux-schnell", ["negative_prompt_ignored"]), ("replicate:stability-ai/sdxl", [])],
)
def test_a_negative_prompt_that_no_model_gets_is_reported(source: str, told: list[str]) -> None:
    assert [each.code for each in losses_of(source, asked())] == told
    assert list(losses_of(source, asked(negative_prompt=None))) == []
    by_rule = asked(negative_prompt=negative_prompt_for("a red circle"))
    assert list(losses_of(source, by_rule)) == [], "the owner did not write it"


@pytest.mark.parametrize(("fit", "size"), [(None, (32, 16)), ("crop", (64, 64)), ("pad", (64, 64))])
def test_a_picture_goes_in_the_shape_that_its_job_says(fit: str | None, size: tuple[int, int]) -> None:
    params = {} if fit is None else {"fit": fit}
    request = asked(width=64, height=64, references=(composition(0.5),), params=params)
    inputs = inputs_of("replicate:stability-ai/sdxl", request, 0)
    sent = Image.open(io.BytesIO(base64.b64decode(str(inputs["image"]).partition(",")[2])))
    assert (sent.size, "fit" in inputs) == (size, False)


IMAGE_PARAMS = {"width": 1280, "height": 720, "steps": 20, "guidance": 3.5}
VIDEO_PARAMS = {**IMAGE_PARAMS, "frames": 81, "fps": 16}
BY_RATIO = "the size 1280 x 720, of which the ratio 16:9 is asked for"


@pytest.mark.parametrize(
    ("source", "kind", "ignored"),
    [
        ("replicate:black-forest-labs/flux-schnell", Kind.IMAGE, ["guidance 3.5", BY_RATIO]),
        ("replicate:black-forest-labs/flux-dev", Kind.IMAGE, [BY_RATIO]),
        ("replicate:stability-ai/sdxl", Kind.IMAGE, []),
        ("fal:fal-ai/flux/schnell", Kind.IMAGE, []),
        ("replicate:any/video", Kind.VIDEO, ["steps 20", "guidance 3.5", "frames 81", "fps 16", BY_RATIO]),
        ("fal:any/video", Kind.VIDEO, ["steps 20", "guidance 3.5", "frames 81", "fps 16", BY_RATIO]),
    ],
)
def test_what_is_not_sent_is_reported(source: str, kind: Kind, ignored: list[str]) -> None:
    params = VIDEO_PARAMS if kind is Kind.VIDEO else IMAGE_PARAMS
    request = asked(params=params, kind=kind, negative_prompt=None)
    told = [each.detail for each in losses_of(source, request) if each.code == "parameters_ignored"]
    start = f"{source} does not take these, and they change nothing: "
    assert told == ([f"{start}{'; '.join(ignored)}."] if ignored else [])


@pytest.mark.parametrize("source", sorted({pattern.replace("*", "any") for pattern, _, _ in TABLE}))
@pytest.mark.parametrize("kind", list(Kind))
def test_every_parameter_is_sent_or_reported(source: str, kind: Kind) -> None:
    """Whatever a row of the table leaves out: each value is among the inputs, or in the warning."""
    if not any(made is kind and fnmatchcase(source, pattern) for pattern, made, _ in TABLE):
        pytest.skip("this provider has no such models")
    params = VIDEO_PARAMS | {"sampler": "euler"}
    request = asked(params=params, kind=kind, negative_prompt=None)
    sent = str(inputs_of(source, request, 0))
    told = " ".join(each.detail for each in losses_of(source, request))
    assert [name for name, value in params.items() if str(value) not in sent and str(value) not in told] == []


def test_a_strength_that_is_not_sent_is_reported() -> None:
    request = asked(params=VIDEO_PARAMS, kind=Kind.VIDEO, references=(composition(0.4),))
    [told] = [each for each in losses_of("fal:any/video", request) if each.code == "parameters_ignored"]
    assert "the strength 0.4 of the composition reference" in told.detail
