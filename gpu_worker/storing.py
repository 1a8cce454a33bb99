"""A rendered image becomes a file in the object store, once."""

import hashlib
import time
from dataclasses import dataclass

from gpu_worker.encode import BrokenPng, encode_png, read_png
from gpu_worker.engines import RenderedImage
from services.blobs import Blobs, BlobStoreUnavailable
from services.wire import Output, WorkOrder

MEDIA_TYPE = "image/png"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A file in the object store. Sizes are bytes and pixels; `store_ms` covers encoding and writing."""

    sha256: str
    bytes: int
    width: int
    height: int
    store_ms: int


def store(blobs: Blobs, order: WorkOrder, output: Output, rendered: RenderedImage, model_revision: str) -> StoredImage:
    """Encode and write it. A file that an earlier attempt left there stays, and is what gets described.

    Raises `BlobStoreUnavailable` or `BlobMissing` when the store is to blame, `BrokenPng` when the file that is there
    cannot be decoded, and whatever the encoder raises.
    """
    began = time.perf_counter()
    content = encode_png(rendered.image, origin_of(order, output, model_revision))
    width, height = rendered.image.size
    try:
        if not blobs.put_once(output.path, content):
            content = blobs.get(output.path)
            width, height = read_png(content)
    except BrokenPng as error:
        raise BrokenPng(f"An earlier attempt left a broken file at {output.path}: {error}") from None
    except OSError as error:
        raise BlobStoreUnavailable(f"The object store could not keep {output.path}: {error}") from error
    store_ms = round((time.perf_counter() - began) * 1000)
    return StoredImage(hashlib.sha256(content).hexdigest(), len(content), width, height, store_ms)


def origin_of(order: WorkOrder, output: Output, model_revision: str) -> dict[str, str | int]:
    """What the file says about itself. Nothing of the attempt: each attempt writes the same bytes."""
    recipe = order.recipe
    origin: dict[str, str | int] = {
        "Job": str(order.job_id),
        "Index": output.index,
        "Seed": output.seed,
        "Prompt": recipe.prompt,
        "Model": recipe.model,
        "Model revision": model_revision,
        "Recipe": recipe.fingerprint(),
    }
    if recipe.negative_prompt:
        origin["Negative prompt"] = recipe.negative_prompt
    return origin | {name.capitalize(): str(value) for name, value in sorted(recipe.params.items())}
