"""Fit an image to the shape of the output: crop, add bars or stretch, as the parameter `fit` says."""

from collections.abc import Mapping
from typing import Final

from PIL import Image, ImageOps

from domain.recipes.recipe import ParamValue
from gpu_worker.engines import InvalidRequest

FITS: Final = ("crop", "pad", "stretch")

NEAREST: Final = Image.Resampling.LANCZOS


def fit_of(params: Mapping[str, ParamValue]) -> str:
    """The value of `fit`; older recipes have none, which means `crop`. Raises InvalidRequest."""
    fit = str(params.get("fit", FITS[0]))
    if fit not in FITS:
        raise InvalidRequest(f"The fit has to be one of {', '.join(FITS)}, but is {fit!r}.")
    return fit


def fitted(image: Image.Image, width: int, height: int, fit: str) -> Image.Image:
    """The image in RGB, of this size: cropped at its centre, or whole on its average colour, or stretched."""
    image = image.convert("RGB")
    match fit:
        case "pad":
            scale = min(width / image.width, height / image.height)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            whole = Image.new("RGB", (width, height), average_of(image))
            whole.paste(image.resize(size, NEAREST), ((width - size[0]) // 2, (height - size[1]) // 2))
            return whole
        case "stretch":
            return image.resize((width, height), NEAREST)
        case _:
            return ImageOps.fit(image, (width, height), NEAREST)


def squared(image: Image.Image, fit: str) -> Image.Image:
    """The image as a square, for an image encoder that would otherwise crop it."""
    if fit == "crop" or image.width == image.height:
        return image
    side = max(image.size)
    return fitted(image, side, side, fit)


def average_of(image: Image.Image) -> tuple[int, int, int]:
    """The average colour of an image in RGB."""
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).tobytes()
    return red, green, blue
