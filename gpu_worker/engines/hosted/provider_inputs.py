"""Convert a render request to the inputs of a hosted model: a table of names with one row per family of models."""

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from PIL import Image

from domain.recipes.cautions import quoted
from domain.recipes.recipe import Kind, ParamValue
from domain.warning_codes import WarningCode
from domain.wording.negative_prompt import is_made_by_rule
from gpu_worker.engines import InvalidRequest, RenderRequest, Warned
from gpu_worker.engines.diffusers.fitting import fit_of, fitted
from gpu_worker.engines.hosted.provider import Inputs

DATA_URI_PNG_BYTES_MAX = 256 * 1024
"""Maximum bytes of a PNG in a data URI, as Replicate recommends; a larger one is sent as JPEG."""

JPEG_QUALITY = 95
LOOSE_MIN = 0.05
"""Minimum of `loose`, 0 … 1: less would return the input image itself."""

IMAGE_RATIOS = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
VIDEO_RATIOS = ("16:9", "9:16", "1:1")


@dataclass(frozen=True, slots=True)
class Names:
    """A model's names of the parts of a request; None for a part that it does not accept.

    `loose` is how freely an image is changed, 0 … 1: the opposite of a reference's strength. `fixed` is sent with every
    request.
    """

    size: Literal["width and height", "image_size", "aspect_ratio"] = "aspect_ratio"
    ratios: tuple[str, ...] = IMAGE_RATIOS
    steps: str | None = "num_inference_steps"
    guidance: str | None = "guidance_scale"
    negative_prompt: str | None = "negative_prompt"
    image: str | None = None
    loose: str | None = None
    fixed: Mapping[str, ParamValue] = field(default_factory=dict)


# Without go_fast the same seed gives the same image, and PNG is lossless.
FLUX_AT_REPLICATE: Mapping[str, ParamValue] = {"num_outputs": 1, "output_format": "png", "go_fast": False}
ONE_PNG_AT_FAL: Mapping[str, ParamValue] = {"num_images": 1, "output_format": "png"}

TABLE: tuple[tuple[str, Kind, Names], ...] = (
    (
        "replicate:black-forest-labs/flux-schnell*",
        Kind.IMAGE,
        Names(guidance=None, negative_prompt=None, fixed=FLUX_AT_REPLICATE),
    ),
    (
        "replicate:black-forest-labs/flux-dev*",
        Kind.IMAGE,
        Names(
            guidance="guidance", negative_prompt=None, image="image", loose="prompt_strength", fixed=FLUX_AT_REPLICATE
        ),
    ),
    ("replicate:*", Kind.IMAGE, Names("width and height", image="image", loose="prompt_strength")),
    ("replicate:*", Kind.VIDEO, Names(ratios=VIDEO_RATIOS, steps=None, guidance=None, image="image")),
    ("fal:fal-ai/flux/schnell", Kind.IMAGE, Names("image_size", negative_prompt=None, fixed=ONE_PNG_AT_FAL)),
    ("fal:*", Kind.IMAGE, Names("image_size", image="image_url", loose="strength", fixed=ONE_PNG_AT_FAL)),
    ("fal:*", Kind.VIDEO, Names(ratios=VIDEO_RATIOS, steps=None, guidance=None, image="image_url")),
)
"""Names by `provider:model` and kind of output; the first matching row counts.

Video models have little in common: they get the prompt, the seed, the ratio and the image. Other parameters of a recipe
are sent under their own names, so a job type can have parameters of its model.
"""

COMMON = frozenset({"width", "height", "steps", "guidance", "frames", "fps", "fit"})


def inputs_of(source: str, request: RenderRequest, position: int) -> Inputs:
    """The inputs of the model of `source` for one output.

    Raises InvalidRequest for a request that no hosted model accepts.
    """
    names = _names_of(source, request.kind)
    inputs: dict[str, ParamValue | Mapping[str, int]] = {
        **{name: value for name, value in request.params.items() if name not in COMMON},
        **names.fixed,
        "prompt": request.prompt,
        "seed": request.seeds[position],
    }
    match names.size:
        case "width and height":
            inputs |= {"width": request.width, "height": request.height}
        case "image_size":
            inputs["image_size"] = {"width": request.width, "height": request.height}
        case "aspect_ratio":
            inputs["aspect_ratio"] = nearest_ratio(request.width, request.height, names.ratios)
    if names.steps:
        inputs[names.steps] = request.steps
    if names.guidance:
        inputs[names.guidance] = request.guidance
    if names.negative_prompt and request.negative_prompt:
        inputs[names.negative_prompt] = request.negative_prompt
    return inputs | _picture(source, request, names)


def losses_of(source: str, request: RenderRequest) -> Iterator[Warned]:
    """Parts of the request that the model of `source` ignores, as far as the table knows."""
    negative = request.negative_prompt
    names = _names_of(source, request.kind)
    if negative and names.negative_prompt is None and not is_made_by_rule(negative, request.prompt):
        yield Warned(WarningCode.NEGATIVE_PROMPT_IGNORED, f"{source} takes no negative prompt: {quoted(negative)}.")
    ignored = list(_ignored(request, names))
    if ignored:
        yield Warned(
            WarningCode.PARAMETERS_IGNORED,
            f"{source} does not take these, and they change nothing: {'; '.join(ignored)}.",
        )


def _ignored(request: RenderRequest, names: Names) -> Iterator[str]:
    """The parameters, size and strengths that the model does not accept, each as text."""
    unsent = {"steps": names.steps is None, "guidance": names.guidance is None, "frames": True, "fps": True}
    for name, value in request.params.items():
        if unsent.get(name, False):
            yield f"{name} {value}"
    if names.size == "aspect_ratio" and {"width", "height"} <= request.params.keys():
        ratio = nearest_ratio(request.width, request.height, names.ratios)
        yield f"the size {request.width} x {request.height}, of which the ratio {ratio} is asked for"
    if names.loose is None:
        for reference in request.references:
            yield f"the strength {reference.strength:g} of the {reference.type} reference"


def _names_of(source: str, kind: Kind) -> Names:
    return next(names for pattern, made, names in TABLE if made is kind and fnmatchcase(source, pattern))


def _shaped(request: RenderRequest, image: Image.Image) -> Image.Image:
    """The image in the shape of the output, if the job says how; else unchanged, and the provider decides."""
    if "fit" not in request.params:
        return image
    return fitted(image, request.width, request.height, fit_of(request.params))


def _picture(source: str, request: RenderRequest, names: Names) -> dict[str, ParamValue]:
    if request.video is not None:
        raise InvalidRequest(f"{source} does not continue videos.")
    others = [reference.type for reference in request.references if reference.type != "composition"]
    if others or len(request.references) > 1:
        raise InvalidRequest(f"{source} takes one composition reference at most, and none for style or character.")
    if request.image is not None and request.references:
        raise InvalidRequest(f"{source} takes one picture: a composition reference, or one to start from.")
    if request.image is not None:
        return {_name_of_image(source, names): data_uri(_shaped(request, request.image))}
    given: dict[str, ParamValue] = {}
    for reference in request.references:
        given[_name_of_image(source, names)] = data_uri(_shaped(request, reference.image))
        if names.loose:
            given[names.loose] = round(max(LOOSE_MIN, 1.0 - reference.strength), 3)
    return given


def _name_of_image(source: str, names: Names) -> str:
    if names.image is None:
        raise InvalidRequest(f"{source} starts from no picture.")
    return names.image


def nearest_ratio(width: int, height: int, ratios: tuple[str, ...]) -> str:
    """The ratio, as in `16:9`, with the least distortion."""

    def distortion(ratio: str) -> float:
        wide, _, high = ratio.partition(":")
        return abs(math.log(width / height) - math.log(int(wide) / int(high)))

    return min(ratios, key=distortion)


def data_uri(image: Image.Image) -> str:
    """The image as a data URI: a PNG, or a JPEG if that would be large."""
    file = io.BytesIO()
    media_type = "image/png"
    image.save(file, "PNG")
    if file.tell() > DATA_URI_PNG_BYTES_MAX:
        file = io.BytesIO()
        media_type = "image/jpeg"
        image.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:{media_type};base64,{base64.b64encode(file.getvalue()).decode()}"
