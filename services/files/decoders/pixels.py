"""Pixels and samples of untrusted files, as numpy and Pillow hold them, decoded in the processes of `bounded`.

Apart from `bounded`, because the API and the command line need neither library.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domain.warning_codes import WarningCode
from services.files.decoders.bounded import DECODERS
from services.files.media.kinds import PIXELS_MAX, SOUND_BYTES_MAX, VIDEO_BYTES_MAX, Loss
from services.files.media.sounds import Sound


def read_image(content: bytes) -> Image.Image:
    """Return the picture as it is shown, in RGB. Raises `UnreadableMedia` and `DecodingUnavailable`."""
    image, _ = read_picture(content)
    return image


def read_picture(content: bytes) -> tuple[Image.Image, tuple[Loss, ...]]:
    """Return the picture as it is shown, in RGB, and its losses. Raises as `read_image`."""
    header, pixels = DECODERS.ask("image", content, bytes_max=PIXELS_MAX * 3)
    image = Image.frombytes("RGB", (header["width"], header["height"]), pixels)
    return image, tuple(Loss(WarningCode(each["code"]), each["detail"]) for each in header["losses"])


def read_video(content: bytes, *, frames_max: int) -> tuple[NDArray[np.uint8], float]:
    """Return frames, [frames, height, width, 3], as they are shown at a constant rate, and frames per second.

    Raises `UnreadableMedia`, also for more than `frames_max` frames, and `DecodingUnavailable`.
    """
    header, pixels = DECODERS.ask("video", content, {"frames_max": frames_max}, bytes_max=VIDEO_BYTES_MAX)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(header["shape"]), float(header["fps"])


def read_sound(content: bytes) -> tuple[Sound | None, int]:
    """Return the first sound track of a video, None if there is none, and the number of further ones.

    Raises `UnreadableMedia` and `DecodingUnavailable`.
    """
    header, samples = DECODERS.ask("sound", content, bytes_max=SOUND_BYTES_MAX)
    if "shape" not in header:
        return None, 0
    held = np.frombuffer(samples, dtype=np.float32).reshape(header["shape"])
    return Sound(held, int(header["rate"]), str(header["layout"])), int(header["others"])
