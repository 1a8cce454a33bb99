"""Common needs of all diffusers pipelines: quiet libraries, step callbacks, errors in one line."""
# mypy: allow-untyped-calls

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from gpu_worker.engines import RenderCanceled


def keep_quiet() -> None:
    """Keep progress bars and messages of the libraries out of the worker's log."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # diffusers itself calls this deprecated method in every half-precision call.
    warnings.filterwarnings("ignore", message=".*upcast_vae.*", category=FutureWarning)


@dataclass(slots=True)
class StepsOfCalls:
    """Step callback of a pipeline: counts over all calls of a request, and ends it when it is canceled."""

    on_step: Callable[[int, int], None]
    canceled: Callable[[], bool]
    calls_done: int = 0
    calls_left: int = 0

    def __call__(self, pipeline: Any, step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        steps = pipeline.num_timesteps
        self.on_step(self.calls_done * steps + step + 1, (self.calls_done + self.calls_left) * steps)
        if self.canceled():
            raise RenderCanceled(f"The job was canceled after step {step + 1} of {steps}.")
        return {}
