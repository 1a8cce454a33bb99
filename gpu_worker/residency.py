"""The models in memory: loaded on first use, within a budget; the least recently used one is evicted first."""

import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import hf_hub_download

from gpu_worker.engines import Engine, ModelUnavailable
from gpu_worker.engines.device_memory import free_memory
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.tuned import dtype_on
from gpu_worker.engines.diffusers.wan import WanEngine
from gpu_worker.engines.hosted.engine import HostedEngines
from gpu_worker.engines.model_files import pipeline_class
from gpu_worker.engines.model_size import estimated_bytes
from gpu_worker.engines.model_source import is_hub_id, source_of
from gpu_worker.tuning import Tuning

LOG = logging.getLogger("darkroom.worker")

MB = 1_000_000

FAILURE_KEPT_S = 30.0
"""Seconds for which jobs of a broken model fail immediately; then it is tried again in case it was repaired."""


class LocalEngine(Engine, Protocol):
    """A model in this machine's memory."""

    @property
    def weights_bytes(self) -> int:
        """Bytes of its weights now; grows when a part is added, such as an IP-Adapter."""


class Load(Protocol):
    """Loads an engine from a source. Raises ModelUnavailable or OutOfMemory."""

    def __call__(self, source: str, /, *, device: str | None, tuning: Tuning) -> LocalEngine: ...


LOADERS: Mapping[str, Load] = {"StableDiffusionXL": SdxlEngine.load, "Wan": WanEngine.load}
"""Loaders by the prefix of a model's pipeline class."""


class Residency:
    """The loaded engines of a worker. Used by one thread at a time."""

    def __init__(
        self,
        models: Mapping[str, str],
        device: str | None = None,
        *,
        budget_bytes: int | None = None,
        tuning: Tuning | None = None,
        hosted: HostedEngines | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take model names with their folder, file or hub id, and the maximum bytes of all weights together.

        The default is `default_budget_bytes`. Hosted models take no memory. Raises TuningRefused.
        """
        self._models = dict(models)
        self._hosted = hosted or HostedEngines(models, {})
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tuning = tuning or Tuning()
        self._tuning.refuse_impossible(self._device)
        self._budget_bytes = default_budget_bytes(self._device) if budget_bytes is None else budget_bytes
        self._clock = clock
        self._loaded: OrderedDict[str, LocalEngine] = OrderedDict()
        self._failed: dict[str, tuple[float, str]] = {}

    @property
    def device_name(self) -> str:
        """The device; for a GPU with the name of its card."""
        if not self._device.startswith("cuda"):
            return self._device
        return f"{self._device} {torch.cuda.get_device_name(self._device)}"

    def engine(self, model_name: str) -> Engine:
        """The engine of a model, loaded if needed. Raises ModelUnavailable or OutOfMemory."""
        if model_name in self._hosted:
            return self._hosted.engine(model_name)
        if model_name in self._loaded:
            self._loaded.move_to_end(model_name)
            return self._loaded[model_name]
        source = source_of(model_name, self._models)
        failed_at_s, why = self._failed.get(model_name, (float("-inf"), ""))
        if self._clock() - failed_at_s < FAILURE_KEPT_S:
            raise ModelUnavailable(why)
        try:
            self._load(model_name, source)
        except ModelUnavailable as error:
            self._failed[model_name] = (self._clock(), str(error))
            raise
        self._failed.pop(model_name, None)
        return self._loaded[model_name]

    def is_loaded(self, model_name: str) -> bool:
        """Whether its next job starts without loading. Thread-safe."""
        return model_name in self._loaded or model_name in self._hosted

    def ran_out(self, model_name: str) -> None:
        """Memory ran out while rendering with this model: drop the others and lower the budget accordingly.

        The new budget is below the bytes that were loaded then.
        """
        others = [name for name in self._loaded if name != model_name]
        if model_name in self._loaded and others:
            self._budget_bytes = min(self._budget_bytes, self._taken_bytes() - 1)
            LOG.warning("memory ran out: dropped %s; from now on models keep less of it", ", ".join(others))
            for name in others:
                del self._loaded[name]
            free_memory()

    def release(self) -> None:
        """Drop every loaded engine because the memory is needed elsewhere. The next job loads its own again."""
        self._loaded.clear()
        free_memory()

    def _load(self, model_name: str, source: str) -> None:
        """Make room according to the file sizes, load, and make room again according to the actual size."""
        load = loader_of(source)
        estimate = estimated_bytes(source, dtype_on(self._device, self._tuning, torch.float16).itemsize)
        self._make_room(self._budget_bytes if estimate is None else estimate)
        engine = load(source, device=self._device, tuning=self._tuning)
        taken_bytes = engine.weights_bytes
        if taken_bytes > self._budget_bytes:
            LOG.warning(
                "the model %s takes %d MB, more than the %d MB of DARKROOM_MEMORY_BUDGET_MB: it is loaded alone",
                model_name,
                taken_bytes // MB,
                self._budget_bytes // MB,
            )
        self._make_room(taken_bytes)
        self._loaded[model_name] = engine

    def _make_room(self, wanted_bytes: int) -> None:
        """Drop the least recently used engines until `wanted_bytes` fit, or none is left."""
        dropped = False
        while self._loaded and wanted_bytes + self._taken_bytes() > self._budget_bytes:
            model_name, _ = self._loaded.popitem(last=False)
            LOG.info("dropped the model %s: another one needs its memory", model_name)
            dropped = True
        if dropped:
            free_memory()

    def _taken_bytes(self) -> int:
        return sum(engine.weights_bytes for engine in self._loaded.values())


def default_budget_bytes(device: str) -> int:
    """90 % of a GPU's memory; on a CPU half of the machine's, which other programs need too."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory * 9 // 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def loader_of(source: str) -> Load:
    """The loader for a source, by its files; the SDXL engine if unclear, or if it gives the better error.

    Raises ModelUnavailable for a folder that is not a model.
    """
    path = Path(source).expanduser()
    kind = ""
    if path.is_dir():
        kind = pipeline_class(path)
    elif is_hub_id(source):
        kind = hub_pipeline_class(source)
    return next((load for beginning, load in LOADERS.items() if kind.startswith(beginning)), SdxlEngine.load)


def hub_pipeline_class(hub_id: str) -> str:
    """The diffusers pipeline class of a hub model; empty if the hub does not say."""
    try:
        index = json.loads(Path(hf_hub_download(hub_id, "model_index.json")).read_text(encoding="utf-8"))
        return str(index["_class_name"])
    except Exception:  # offline, unknown, private, or no such file: loading it reports which
        return ""
