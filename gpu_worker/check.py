"""`python -m gpu_worker --check`: problems with these settings, found without loading a model."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.hosted.engine import is_hosted
from gpu_worker.engines.model_source import is_hub_id
from gpu_worker.settings import WorkerSettings

LOCAL_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors")
"""Packages of the extra `worker`; hosted models need none of them."""


def faults(settings: WorkerSettings) -> Iterator[tuple[str, str]]:
    """Each problem and its fix, as sentences."""
    local = {name: source for name, source in settings.models.items() if not is_hosted(source)}
    missing = [package for package in LOCAL_PACKAGES if find_spec(package) is None]
    if local and missing:
        yield (
            f"The worker lacks {', '.join(missing)}.",
            "Install Darkroom with its extra: pip install 'darkroom[worker]'; or give only hosted models in "
            "DARKROOM_MODELS.",
        )
        return
    for name, source in local.items():
        try:
            require_whole_model(source)
        except ModelUnavailable as error:
            yield (
                f"The model {name} cannot be loaded: {error}",
                f"Repair the files, or change {name}=… in DARKROOM_MODELS.",
            )


def require_whole_model(source: str) -> None:
    """Raise ModelUnavailable if a folder or file is not a complete model. A hub id is not checked."""
    from gpu_worker.engines import model_files  # noqa: PLC0415 - brings safetensors, of the extra

    path = Path(source).expanduser()
    if path.is_dir():
        model_files.require_whole(path)
    elif path.is_file():
        model_files.require_sdxl_file(path)
    elif not is_hub_id(source):
        raise ModelUnavailable(f"There is no model at {source}.")
