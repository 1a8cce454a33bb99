"""Parts shared by all attempts of a worker, and the conversion of an order to a render request."""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from PIL import Image

from domain.recipes.recipe import Recipe
from gpu_worker.engines import Engine, GivenReference, InvalidRequest, RenderRequest, Warned
from gpu_worker.engines.model_source import source_of
from gpu_worker.enhancement.enhancing import Enhancing
from gpu_worker.outputs.storing import FileRecipe
from services.files.blobs import Blobs
from services.files.decoders.pixels import read_picture
from services.files.media.kinds import UnreadableMedia
from services.messaging.wire import AnnouncedModel, WorkOrder


class Engines(Protocol):
    """Source of engines; used only in the render thread, except for `is_loaded`."""

    @property
    def device_name(self) -> str:
        """The device for display: `cpu`, `cuda NVIDIA H200`, `hosted`."""

    def engine(self, model_name: str) -> Engine:
        """The engine of a model, loaded if needed. Raises ModelUnavailable or OutOfMemory."""

    def is_loaded(self, model_name: str) -> bool:
        """Whether its next job starts without loading. Thread-safe."""

    def ran_out(self, model_name: str) -> None:
        """Memory ran out while rendering with this model: drop the idle ones."""

    def release(self) -> None:
        """Drop every loaded engine because the memory is needed elsewhere. The next job loads its own again."""


class Workshop:
    """Parts shared by all attempts of a worker: engines, object store, and the single render thread."""

    def __init__(
        self,
        worker: str,
        models: Mapping[str, str],
        engines: Engines,
        blobs: Blobs,
        enhancing: Enhancing | None = None,
        file_recipe: FileRecipe = "full",
        device: str = "cpu",
    ) -> None:
        """Take an enhancer, or None for only the rules, and how much files record about their origin.

        `device` is the device as shown to operators.
        """
        self.file_recipe = file_recipe
        self.worker = worker
        self.device = device
        self.blobs = blobs
        self.enhancing = enhancing or Enhancing()
        self.rendering = ThreadPoolExecutor(1, thread_name_prefix="render")
        self.storing = ThreadPoolExecutor(2, thread_name_prefix="store")
        self._models = models
        self._engines = engines

    def engine(self, model: str) -> Engine:
        """The engine of a model; call it in the render thread. Raises ModelUnavailable or OutOfMemory."""
        source_of(model, self._models)
        return self._engines.engine(model)

    def models(self) -> Iterator[AnnouncedModel]:
        """The models that it can render, and which are loaded."""
        return (AnnouncedModel(name=name, loaded=self._engines.is_loaded(name)) for name in self._models)

    def ran_out(self, model: str) -> None:
        """Memory ran out while rendering with this model; call it in the render thread, before continuing."""
        self._engines.ran_out(model)

    def is_loaded(self, model: str) -> bool:
        """Whether a job of this model needs no loading: it is loaded, or the job fails immediately."""
        return model not in self._models or self._engines.is_loaded(model)


def request_of(order: WorkOrder, blobs: Blobs) -> RenderRequest:
    """The request to the engine: the remaining outputs, in order, with their input files.

    Raises InvalidRequest; `BlobMissing` and `BlobStoreUnavailable` if a file cannot be read.
    """
    recipe = order.recipe
    inputs = InputFiles(recipe, blobs)
    try:
        request = RenderRequest(
            prompt=order.enhanced_prompt or recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            width=int(recipe.params["width"]),
            height=int(recipe.params["height"]),
            steps=int(recipe.params["steps"]),
            guidance=float(recipe.params["guidance"]),
            seeds=tuple(output.seed for output in order.outputs),
            task=recipe.task,
            kind=order.outputs[0].kind,
            params=recipe.params,
            references=inputs.references(),
            image=inputs.image(),
            video=inputs.video(),
            provider_ids={n: output.provider_id for n, output in enumerate(order.outputs) if output.provider_id},
        )
        return replace(request, losses=tuple(inputs.losses))
    except KeyError as error:
        raise InvalidRequest(f"The recipe lacks the parameter {error}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The recipe's width, height, steps and guidance must be numbers: {error}.") from None


class InputFiles:
    """The input files of a recipe, fetched and checked against the hashes in the recipe."""

    def __init__(self, recipe: Recipe, blobs: Blobs) -> None:
        self._recipe = recipe
        self._blobs = blobs
        self.losses: list[Warned] = []
        """Warnings about properties of the images read so far that are not used."""

    def references(self) -> tuple[GivenReference, ...]:
        """The images that guide the result."""
        return tuple(
            GivenReference(reference.type, self._image(reference.source), reference.strength)
            for reference in self._recipe.references
        )

    def image(self) -> Image.Image | None:
        """The image that the result starts from."""
        source = self._recipe.media.get("image")
        return None if source is None else self._image(source)

    def video(self) -> bytes | None:
        """The video to extend."""
        source = self._recipe.media.get("video")
        return None if source is None else self._content(source)

    def _image(self, source: str) -> Image.Image:
        try:
            image, losses = read_picture(self._content(source))
        except UnreadableMedia as error:
            raise InvalidRequest(f"{source}: {error}") from None
        self.losses += (Warned(loss.code, f"{source} {loss.detail}") for loss in losses)
        return image

    def _content(self, source: str) -> bytes:
        file = self._recipe.files.get(source)
        if file is None:
            raise InvalidRequest(f"The recipe names {source}, but not its file.")
        content = self._blobs.get(file.path)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise InvalidRequest(f"The file of {source} at {file.path} is not the one that the job was accepted with.")
        return content


@cache
def library_versions() -> Mapping[str, str]:
    """Installed versions, without importing the packages; `unknown` if Darkroom runs from its sources."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "unknown"

    return {package: installed(package) for package in ("darkroom", "torch", "diffusers")}
