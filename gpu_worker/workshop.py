"""What every attempt of a worker shares, and what an order means to an engine."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from domain.recipe import Task
from gpu_worker.engines import Engine, InvalidRequest, ModelUnavailable, RenderRequest
from services.blobs import Blobs
from services.wire import WorkOrder


class Engines(Protocol):
    """Where engines come from; asked only in the render thread."""

    def engine(self, model_name: str) -> Engine:
        """Load it if need be. Raises ModelUnavailable or OutOfMemory."""


class Workshop:
    """What every attempt of a worker shares: engines, object store, and the one thread that touches torch."""

    def __init__(self, worker: str, models: Mapping[str, str], engines: Engines, blobs: Blobs) -> None:
        self.worker = worker
        self.blobs = blobs
        self.rendering = ThreadPoolExecutor(1, thread_name_prefix="render")
        self.storing = ThreadPoolExecutor(2, thread_name_prefix="store")
        self._models = models
        self._engines = engines

    def engine(self, model: str) -> Engine:
        """The engine of a model; call it in the render thread. Raises ModelUnavailable or OutOfMemory."""
        if model not in self._models:
            raise ModelUnavailable(
                f"Worker {self.worker} has no model {model!r}; add {model}=FOLDER to DARKROOM_MODELS, "
                f"which now names {', '.join(sorted(self._models))}."
            )
        return self._engines.engine(model)


def request_of(order: WorkOrder) -> RenderRequest:
    """What the engine shall paint: the outputs that are still owed, in their order. Raises InvalidRequest."""
    recipe = order.recipe
    if recipe.task is not Task.TEXT_TO_IMAGE or recipe.references or recipe.media:
        raise InvalidRequest(f"This worker paints images from text alone; it cannot do this {recipe.task} recipe.")
    try:
        return RenderRequest(
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            width=int(recipe.params["width"]),
            height=int(recipe.params["height"]),
            steps=int(recipe.params["steps"]),
            guidance=float(recipe.params["guidance"]),
            seeds=tuple(output.seed for output in order.outputs),
        )
    except KeyError as error:
        raise InvalidRequest(f"The recipe lacks the parameter {error}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The recipe's width, height, steps and guidance must be numbers: {error}.") from None


@cache
def library_versions() -> Mapping[str, str]:
    """What is installed, without importing it; `unknown` where Darkroom runs from its sources."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "unknown"

    return {package: installed(package) for package in ("darkroom", "torch", "diffusers")}
