"""Open an SDXL folder, file or hub id as a diffusers pipeline. The pipeline is `Any`: see engines.diffusers.sdxl."""
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.diffusers.pipelines import HUB_ID
from gpu_worker.engines.identity import loaded_and_identified
from gpu_worker.engines.model_files import require_sdxl, require_sdxl_file, weights_variant
from services.observability.redaction import one_line


def open_model(source: str, dtype: torch.dtype) -> tuple[Any, str, Path | None]:
    """The pipeline of a folder, a file or a hub id, its revision, and its folder if it has one."""
    path = Path(source).expanduser()
    if path.is_dir():
        pipeline, revision = loaded_and_identified(path, lambda: from_folder(path, dtype))
        return pipeline, revision, path
    if path.is_file():
        pipeline, revision = loaded_and_identified(path, lambda: from_file(path, dtype))
        return pipeline, revision, None
    if HUB_ID.fullmatch(source):
        snapshot = download(source)
        return from_folder(snapshot, dtype), snapshot.name, snapshot
    raise ModelUnavailable(
        f"There is no model at {path}; give the path of an SDXL folder or .safetensors file, or a hub id."
    )


def from_folder(folder: Path, dtype: torch.dtype) -> Any:
    """Load what save_pretrained wrote, and nothing from elsewhere."""
    require_sdxl(folder)
    return StableDiffusionXLPipeline.from_pretrained(
        str(folder), dtype=dtype, variant=weights_variant(folder), use_safetensors=True, local_files_only=True
    )


def from_file(file: Path, dtype: torch.dtype) -> Any:
    """Load a single checkpoint; its configuration comes from the hub, or from the hub's cache on this machine."""
    require_sdxl_file(file)
    try:
        return StableDiffusionXLPipeline.from_single_file(str(file), dtype=dtype, use_safetensors=True)
    except OSError as error:
        raise ModelUnavailable(
            f"The model file {file} cannot be loaded without its configuration from the hub ({one_line(error)}); "
            "give a folder that save_pretrained wrote."
        ) from None


def download(hub_id: str) -> Path:
    """The folder of a hub model in the cache on this machine, after downloading missing files."""
    try:
        return Path(StableDiffusionXLPipeline.download(hub_id, use_safetensors=True))
    except Exception as error:
        raise ModelUnavailable(
            f"{hub_id} is no folder here, and as a hub id it cannot be fetched: {one_line(error)}"
        ) from None
