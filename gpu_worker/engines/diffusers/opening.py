"""Opens a model of any family of diffusers, and makes an engine of it. Each error is one sentence.

The pipeline is `Any` here, because diffusers shows type checkers a placeholder.
"""
# mypy: allow-untyped-calls

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from gpu_worker.engines import ModelUnavailable, OutOfMemory
from gpu_worker.engines.device_memory import is_out_of_memory
from gpu_worker.engines.diffusers.pipelines import keep_quiet
from gpu_worker.engines.diffusers.tuned import dtype_on, tune
from gpu_worker.engines.identity import loaded_and_identified
from gpu_worker.engines.model_source import is_hub_id, snapshot_of
from gpu_worker.tuning import Tuning
from services.observability.redaction import one_line

EngineT = TypeVar("EngineT")

Read = Callable[[Path, torch.dtype], Any]
"""Reads a pipeline with its weights in this number format. Raises ModelUnavailable, and errors of the libraries."""


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one architecture are read. `sources` names what it takes, for a sentence.

    `pipeline` downloads a model from the hub. `from_file` is None if a model is always a folder. `dtype_on_cuda` is the
    number format of the weights on a GPU.
    """

    pipeline: Any
    sources: str
    dtype_on_cuda: torch.dtype
    from_folder: Read
    from_file: Read | None = None


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A pipeline on the CPU, its revision, and its folder if it has one."""

    pipeline: Any
    revision: str
    folder: Path | None


def load_engine(
    family: Family, source: str, device: str | None, tuning: Tuning, engine: Callable[[OpenedModel, str], EngineT]
) -> EngineT:
    """Open a model and let `engine` take it to the device: without one, `cuda` if available, else `cpu`.

    Raises ModelUnavailable, or OutOfMemory.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    keep_quiet()
    try:
        model = open_model(family, source, dtype_on(device, tuning, family.dtype_on_cuda))
        tune(model.pipeline, tuning)
        return engine(model, device)
    except ModelUnavailable:
        raise
    # The libraries pass on the exceptions of a broken part: OSError, ValueError, KeyError, SafetensorError, others.
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"The model {source} does not fit into the memory of {device}.") from None
        raise ModelUnavailable(f"The model {source} cannot be loaded: {one_line(error)}") from None


def open_model(family: Family, source: str, dtype: torch.dtype) -> OpenedModel:
    """Open a folder, a file or a hub id. What is on this machine is hashed; a hub model has the name of its commit."""
    path = Path(source).expanduser()
    from_file = family.from_file
    if path.is_dir():
        pipeline, revision = loaded_and_identified(path, lambda: family.from_folder(path, dtype))
        return OpenedModel(pipeline, revision, path)
    if path.is_file() and from_file is not None:
        pipeline, revision = loaded_and_identified(path, lambda: from_file(path, dtype))
        return OpenedModel(pipeline, revision, None)
    if is_hub_id(source):
        snapshot = snapshot_of(source, lambda: family.pipeline.download(source, use_safetensors=True))
        return OpenedModel(family.from_folder(snapshot, dtype), snapshot.name, snapshot)
    raise ModelUnavailable(f"There is no model at {path}; give the path of {family.sources}, or a hub id.")
