"""Which models are in memory: loaded on first use, the one unused for longest leaves first."""

import gc
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import hf_hub_download

from gpu_worker.engines import Engine, ModelUnavailable
from gpu_worker.engines.hosted import HostedEngines
from gpu_worker.engines.model_files import pipeline_class
from gpu_worker.engines.pipelines import HUB_ID
from gpu_worker.engines.sdxl import SdxlEngine
from gpu_worker.engines.wan import WanEngine

FAILURE_KEPT_S = 30.0
"""Jobs of a broken model fail at once for so long, and then it is tried again: somebody may have repaired it."""


class Load(Protocol):
    """How an engine is loaded from a source. Raises ModelUnavailable or OutOfMemory."""

    def __call__(self, source: str, /, *, device: str | None) -> Engine: ...


LOADERS: Mapping[str, Load] = {"StableDiffusionXL": SdxlEngine.load, "Wan": WanEngine.load}
"""By what the name of a model's pipeline begins with."""


class Residency:
    """The loaded engines of a worker. One thread at a time."""

    def __init__(
        self,
        models: Mapping[str, str],
        device: str | None = None,
        *,
        loaded_max: int | None = None,
        hosted: HostedEngines | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take model names with their folder, file or hub id, and how many may be loaded.

        By default that is one model on a GPU, where a full SDXL leaves no room for another, and two on a CPU. Hosted
        models take no room: they are not counted.
        """
        self._models = dict(models)
        self._hosted = hosted or HostedEngines(models, {})
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._loaded_max = loaded_max or (1 if self._device.startswith("cuda") else 2)
        self._clock = clock
        self._loaded: OrderedDict[str, Engine] = OrderedDict()
        self._failed: dict[str, tuple[float, str]] = {}

    def engine(self, model_name: str) -> Engine:
        """Return the engine of a model, loading it if need be. Raises ModelUnavailable or OutOfMemory."""
        if model_name in self._hosted:
            return self._hosted.engine(model_name)
        if model_name in self._loaded:
            self._loaded.move_to_end(model_name)
            return self._loaded[model_name]
        if model_name not in self._models:
            known = ", ".join(sorted(self._models)) or "none"
            raise ModelUnavailable(f"This worker has no model called {model_name}; its models are: {known}.")
        failed_at_s, why = self._failed.get(model_name, (float("-inf"), ""))
        if self._clock() - failed_at_s < FAILURE_KEPT_S:
            raise ModelUnavailable(why)
        self._make_room()
        try:
            source = self._models[model_name]
            self._loaded[model_name] = loader_of(source)(source, device=self._device)
        except ModelUnavailable as error:
            self._failed[model_name] = (self._clock(), str(error))
            raise
        self._failed.pop(model_name, None)
        return self._loaded[model_name]

    def release(self) -> None:
        """Drop every loaded engine: somebody else needs the memory. The next job loads its own again."""
        self._loaded.clear()
        self._make_room()

    def _make_room(self) -> None:
        while len(self._loaded) >= self._loaded_max:
            self._loaded.popitem(last=False)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def loader_of(source: str) -> Load:
    """Return what loads a source, by what lies there; the SDXL engine where nothing says, or it can say what is wrong.

    Raises ModelUnavailable for a folder that is no model.
    """
    path = Path(source).expanduser()
    kind = ""
    if path.is_dir():
        kind = pipeline_class(path)
    elif not path.exists() and HUB_ID.fullmatch(source):
        kind = hub_pipeline_class(source)
    return next((load for beginning, load in LOADERS.items() if kind.startswith(beginning)), SdxlEngine.load)


def hub_pipeline_class(hub_id: str) -> str:
    """Return which of diffusers' pipelines a hub model is for; empty where the hub does not say."""
    try:
        index = json.loads(Path(hf_hub_download(hub_id, "model_index.json")).read_text(encoding="utf-8"))
        return str(index["_class_name"])
    except Exception:  # offline, unknown, closed, or no such file: loading it says which, in one sentence
        return ""
