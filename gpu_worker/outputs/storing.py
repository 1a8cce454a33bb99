"""Write a rendered output to the object store, once."""

import hashlib
import time
from dataclasses import dataclass
from typing import Final, Literal

from domain.recipes.recipe import asset_id
from gpu_worker.engines import Rendered
from gpu_worker.outputs.encode import BrokenFile, FileFacts, Origin, encode, read
from services.crash_points import Point, reached
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.messaging.wire import Output, WorkOrder
from services.observability import telemetry

FileRecipe = Literal["full", "minimal"]
"""What a file records about its origin: the full recipe, or only job and asset."""

OF_FILES: Final = frozenset(
    {"software", "major_brand", "minor_version", "compatible_brands", "encoder", "handler_name", "creation_time"}
    | {"title", "author", "artist", "description", "comment", "copyright", "disclaimer", "warning", "source", "date"}
)
"""Metadata names, in lower case, that PNG and MP4 files use themselves; MP4 ignores case."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the object store. `bytes` is its size; `store_ms` covers encoding and writing."""

    sha256: str
    bytes: int
    picture: FileFacts
    store_ms: int


def store(
    blobs: Blobs,
    order: WorkOrder,
    output: Output,
    rendered: Rendered,
    model_revision: str,
    file_recipe: FileRecipe = "full",
) -> Stored:
    """Encode and write an output. If an earlier attempt left a file, that one is kept and described.

    Raises `BlobStoreUnavailable` or `BlobMissing` if the store is at fault, `BrokenFile` if the existing file cannot be
    decoded, and exceptions of the encoder.
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
    """The metadata of the file. It does not depend on the attempt: each attempt writes the same bytes.

    `Recipe` is the canonical JSON, and `Recipe fingerprint` the SHA-256 of that text. A parameter has its own name, or
    `Parameter NAME` if the file uses that name itself. A minimal origin identifies the job and says nothing about its
    recipe.
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
