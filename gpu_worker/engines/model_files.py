"""Inspect a model's folder or file without loading it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gpu_worker.engines import ModelUnavailable

SECOND_TEXT_ENCODER = "conditioner.embedders.1."
"""Prefix of weights in every single-file SDXL checkpoint and in no other Stable Diffusion."""


WAN_PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
"""Supported pipelines: from text, and from an image. Wan's others need inputs that our recipes do not have."""


def require_sdxl(folder: Path) -> None:
    """Raise ModelUnavailable unless the folder is an SDXL model with all its parts."""
    kind = pipeline_class(folder)
    if not kind.startswith("StableDiffusionXL"):
        raise ModelUnavailable(f"The model in {folder} is not SDXL but {kind}; give a StableDiffusionXL folder.")
    require_whole(folder)


def require_wan(folder: Path) -> str:
    """Which of WAN_PIPELINES the folder is for. Raises ModelUnavailable if it is none of them or incomplete."""
    kind = pipeline_class(folder)
    if kind not in WAN_PIPELINES:
        known = " or ".join(WAN_PIPELINES)
        raise ModelUnavailable(f"The model in {folder} is {kind}, which is not read here; give a folder of {known}.")
    require_whole(folder)
    return kind


def pipeline_class(folder: Path) -> str:
    """The diffusers pipeline class of a folder. Raises ModelUnavailable."""
    return str(index_of(folder)["_class_name"])


def index_of(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json. Raises ModelUnavailable."""
    index = folder / "model_index.json"
    try:
        parts: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        str(parts["_class_name"])
    except FileNotFoundError:
        raise ModelUnavailable(
            f"The folder {folder} is not a model: it has no model_index.json; give a folder that save_pretrained wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelUnavailable(f"The model in {folder} is broken: its model_index.json cannot be read.") from None
    return parts


def require_whole(folder: Path) -> None:
    """Raise ModelUnavailable unless a folder has every part in its index, with no weights cut off."""
    for name, made_by in index_of(folder).items():
        if isinstance(made_by, list) and any(made_by):
            if not is_there(folder / name):
                raise ModelUnavailable(f"The model in {folder} is not whole: its {name} is missing; copy it again.")
            for weights in (folder / name).glob("*.safetensors"):
                weight_names(weights)


def is_there(part: Path) -> bool:
    """Whether a part has its files; without them transformers silently makes a tokenizer without words."""
    if part.name.startswith("tokenizer"):
        return any((part / name).is_file() for name in ("tokenizer.json", "vocab.json", "spiece.model"))
    return part.is_dir()


def weights_variant(folder: Path, part: str = "unet") -> str | None:
    """The variant `fp16` if the folder has the part only in it: many users keep only that half of a model."""
    weights = {file.name for file in (folder / part).glob("diffusion_pytorch_model*.safetensors")}
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def require_sdxl_file(file: Path) -> None:
    """Raise ModelUnavailable unless the file is a complete SDXL checkpoint in safetensors."""
    if not any(name.startswith(SECOND_TEXT_ENCODER) for name in weight_names(file)):
        raise ModelUnavailable(f"The model file {file} is not SDXL: it lacks the second text encoder.")


def weight_names(file: Path) -> list[str]:
    """The names of the weights in a file, without reading them. Raises ModelUnavailable if it is cut off."""
    try:
        with safe_open(file, framework="pt") as weights:
            return list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise ModelUnavailable(
            f"The weights {file} are cut off or no safetensors ({error}); copy them again."
        ) from None
