"""Read an SDXL folder or file as a diffusers pipeline. The pipeline is `Any`: see engines.diffusers.sdxl."""
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionXLPipeline

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.diffusers.opening import Family
from gpu_worker.engines.model_files import require_sdxl, require_sdxl_file, weights_variant
from services.observability.redaction import one_line


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


SDXL: Final = Family(
    StableDiffusionXLPipeline,
    sources="an SDXL folder or .safetensors file",
    dtype_on_cuda=torch.float16,
    from_folder=from_folder,
    from_file=from_file,
)
