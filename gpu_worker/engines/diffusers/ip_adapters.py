"""The IP-Adapter of an SDXL model: the files in its folder, and when it is in the pipeline."""
# mypy: allow-untyped-calls

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_worker.engines import GivenReference, InvalidRequest, ModelUnavailable
from gpu_worker.engines.device_memory import is_out_of_memory
from gpu_worker.engines.diffusers.sdxl_references import scale_of
from services.observability.redaction import one_line

ADAPTER_FOLDER = "ip_adapter"
"""Folder in the model's folder: the weights, in safetensors, and `image_encoder/`, as in load_ip_adapter of
diffusers."""


class Adapters:
    """The IP-Adapter of a model, in the pipeline only for requests that need it: other pixels stay the same.

    Each reference has an adapter of its own because each has its own scale; they share the image encoder.
    """

    def __init__(self, pipeline: Any, folder: Path | None) -> None:
        self._pipeline = pipeline
        self._model = folder
        self.loaded: tuple[str, ...] = ()

    def files(self, references: Sequence[GivenReference]) -> tuple[str, ...]:
        """The weights of each reference: `style.safetensors` or `character.safetensors`, else the one for both.

        Raises InvalidRequest if the model has none.
        """
        if not references:
            return ()
        folder = self._model / ADAPTER_FOLDER if self._model else None
        there = {file.name for file in folder.glob("*.safetensors")} if folder else set[str]()
        for_both = sorted(there - {"style.safetensors", "character.safetensors"})
        chosen: list[str] = []
        for reference in references:
            own = f"{reference.type}.safetensors"
            candidates = [own] if own in there else for_both
            if folder is None or not candidates or not (folder / "image_encoder" / "config.json").is_file():
                raise InvalidRequest(
                    f"A {reference.type} reference needs an IP-Adapter for SDXL, which this model lacks: put its "
                    f"weights, a .safetensors file, into {ADAPTER_FOLDER}/ of the model's folder and its image encoder "
                    f"into {ADAPTER_FOLDER}/image_encoder/, or leave out the reference."
                )
            chosen.append(candidates[0])
        return tuple(chosen)

    def use(self, files: tuple[str, ...], references: Sequence[GivenReference]) -> None:
        """Load these weights into the pipeline, one for each reference, and set their scales; none removes all.

        The pipeline's parts must be where they were loaded, without offloading. Raises ModelUnavailable, and torch's
        exceptions when memory runs out.
        """
        if files != self.loaded:
            self._load(files)
        if files:
            layers = len(self._pipeline.unet.up_blocks[0].attentions)
            self._pipeline.set_ip_adapter_scale([scale_of(reference, layers) for reference in references])

    def _load(self, files: tuple[str, ...]) -> None:
        if not files:
            self._unload()
            return
        try:
            self._pipeline.load_ip_adapter(
                str(self._model),
                subfolder=ADAPTER_FOLDER,
                weight_name=list(files),
                image_encoder_folder="image_encoder",
                local_files_only=True,
            )
        except Exception as error:  # broken weights may raise anything
            self._unload()  # a partly loaded adapter would break the next request
            if is_out_of_memory(error):
                raise
            names = ", ".join(dict.fromkeys(files))
            raise ModelUnavailable(f"The model's IP-Adapter {names} cannot be loaded: {one_line(error)}") from None
        self.loaded = files

    def _unload(self) -> None:
        self._pipeline.unload_ip_adapter()
        self.loaded = ()
