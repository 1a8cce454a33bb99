"""Memory that a model will need, from the headers of its weights files, without loading it."""

import json
import math
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.model_files import index_of, weights_variant
from gpu_worker.engines.model_source import is_hub_id

HEADER_BYTES_MAX = 100_000_000
"""Maximum bytes of a safetensors header; a longer one is invalid."""


def estimated_bytes(source: str, item_bytes: int) -> int | None:
    """Bytes of a model's weights with `item_bytes` per number; Wan's autoencoder takes 4.

    0 for an unreadable model: loading it reports the problem. None for a hub model that is not on this machine yet.
    """
    path = Path(source).expanduser()
    if is_hub_id(source):
        index = try_to_load_from_cache(source, "model_index.json")
        if not isinstance(index, str):
            return None
        path = Path(index).parent
    try:
        return _of_folder(path, item_bytes) if path.is_dir() else numbers_in(path) * item_bytes
    except (ModelUnavailable, OSError, ValueError, KeyError, TypeError):
        return 0


def _of_folder(folder: Path, item_bytes: int) -> int:
    """Only the parts in the index, and only the variant that is loaded: a hub folder has more."""
    index = index_of(folder)
    is_wan = str(index["_class_name"]).startswith("Wan")
    variant = weights_variant(folder, "transformer" if is_wan else "unet")
    total = 0
    for part, made_by in index.items():
        if isinstance(made_by, list) and any(made_by):
            files = list((folder / part).glob("*.safetensors"))
            wanted = [file for file in files if (".fp16" in file.name) == (variant == "fp16")] or files
            total += sum(map(numbers_in, wanted)) * (4 if is_wan and part == "vae" else item_bytes)
    return total


def numbers_in(file: Path) -> int:
    """The number of values in a safetensors file. Raises OSError, and ValueError if it is cut off."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES_MAX:
            raise ValueError(f"{file} is no safetensors file.")
        header = json.loads(stream.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
