"""What was rendered becomes a file in the object store, once."""

import hashlib
import time
from dataclasses import dataclass
from typing import Final, Literal

from domain.recipe import asset_id
from gpu_worker.encode import BrokenFile, Origin, Picture, encode, read
from gpu_worker.engines import Rendered
from services import telemetry
from services.blobs import Blobs, BlobStoreUnavailable
from services.crash_points import Point, reached
from services.wire import Output, WorkOrder

FileRecipe = Literal["full", "minimal"]
"""What a file says of how it was made: all of it, or only which job and asset it is."""

OF_FILES: Final = frozenset(
    {"software", "major_brand", "minor_version", "compatible_brands", "encoder", "handler_name", "creation_time"}
    | {"title", "author", "artist", "description", "comment", "copyright", "disclaimer", "warning", "source", "date"}
)
"""Names, in lower case, under which PNG and MP4 files say something of themselves; MP4 does not tell A from a."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the object store. `bytes` is its size; `store_ms` covers encoding and writing."""

    sha256: str
    bytes: int
    picture: Picture
    store_ms: int


def store(
    blobs: Blobs,
    order: WorkOrder,
    output: Output,
    rendered: Rendered,
    model_revision: str,
    file_recipe: FileRecipe = "full",
) -> Stored:
    """Encode and write it. A file that an earlier attempt left there stays, and is what gets described.

    Raises `BlobStoreUnavailable` or `BlobMissing` when the store is to blame, `BrokenFile` when the file that is there
    cannot be decoded, and whatever the encoder raises.
    """
    with telemetry.job_span("store", order.job_id, {"darkroom.index": output.index}):
        return _stored(blobs, output, rendered, origin_of(order, output, model_revision, file_recipe))


def _stored(blobs: Blobs, output: Output, rendered: Rendered, origin: Origin) -> Stored:
    began = time.perf_counter()
    content, picture = encode(rendered, output.kind, origin)
    try:
        if not blobs.put_once(output.path, content):
            content = blobs.get(output.path)
            picture = read(content, output.kind)
    except BrokenFile as error:
        raise BrokenFile(f"An earlier attempt left a broken file at {output.path}: {error}") from None
    except OSError as error:
        raise BlobStoreUnavailable(f"The object store could not keep {output.path}: {error}") from error
    reached(Point.WORKER_AFTER_FILE)
    store_ms = round((time.perf_counter() - began) * 1000)
    return Stored(hashlib.sha256(content).hexdigest(), len(content), picture, store_ms)


def origin_of(order: WorkOrder, output: Output, model_revision: str, file_recipe: FileRecipe = "full") -> Origin:
    """What the file says about itself. Nothing of the attempt: each attempt writes the same bytes.

    `Recipe` is the canonical JSON, and `Recipe fingerprint` the SHA-256 of that text. A parameter has its own name, or
    `Parameter NAME` where the file says something else under that. A minimal origin leads back to the job and says
    nothing of what it was asked for.
    """
    recipe = order.recipe
    canonical = recipe.canonical()
    origin: dict[str, str | int] = {
        "Job": str(order.job_id),
        "Asset": str(asset_id(order.job_id, output.index)),
        "Index": output.index,
        "Recipe fingerprint": hashlib.sha256(canonical.encode()).hexdigest(),
    }
    if file_recipe == "minimal":
        return origin
    origin |= {
        "Seed": output.seed,
        "Prompt": recipe.prompt,
        "Model": recipe.model,
        "Model revision": model_revision,
        "Recipe": canonical,
    }
    if order.enhanced_prompt:
        origin["Enhanced prompt"] = order.enhanced_prompt
    if recipe.negative_prompt:
        origin["Negative prompt"] = recipe.negative_prompt
    taken = {key.casefold() for key in origin} | OF_FILES
    for name, value in sorted(recipe.params.items()):
        origin[f"Parameter {name}" if name.casefold() in taken else name.capitalize()] = str(value)
    return origin
