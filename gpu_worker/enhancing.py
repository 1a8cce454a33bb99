"""Prompts made richer on a worker: by its language model where it has one that works, else by the rules."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from domain.enhancement import RULES, enhance
from domain.events import JobPromptEnhanced
from domain.recipe import Kind
from gpu_worker.engines import OutOfMemory, RenderCanceled
from gpu_worker.failures import one_line
from services.wire import WorkOrder

if TYPE_CHECKING:
    from gpu_worker.engines.qwen import QwenEnhancer

LOG = logging.getLogger("darkroom.worker")

FAILURE_KEPT_S: Final = 300.0
"""A language model that cannot be had is not tried again for so long: each try may cost the loaded image models."""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A richer prompt, and who made it."""

    text: str
    enhancer: str


class Enhancing:
    """The enhancer of a worker, loaded on first use. One thread at a time: the one that renders."""

    def __init__(
        self,
        source: str | None = None,
        device: str | None = None,
        make_room: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a folder or hub id; None for the rules alone. `make_room` drops every image model from memory."""
        self.source = source
        self._device = device
        self._make_room = make_room
        self._clock = clock
        self._model: QwenEnhancer | None = None
        self._failed_at_s = float("-inf")
        self._why = ""

    def enhance(self, prompt: str, kind: Kind, canceled: Callable[[], bool] = lambda: False) -> Enhanced:
        """The prompt made richer. Raises RenderCanceled alone: the rules step in for a model that fails."""
        if self.source is None:
            return Enhanced(enhance(prompt, kind), RULES)
        if self._clock() - self._failed_at_s < FAILURE_KEPT_S:
            return self._by_rules(prompt, kind)
        try:
            return self._by_model(self.source, prompt, kind, canceled)
        except RenderCanceled:
            raise
        except Exception as error:  # whatever it is, the picture is worth more than a richer prompt
            name = self.source.rstrip("/").rpartition("/")[2]
            self._why = f"{name} failed: {one_line(error)}"
            LOG.warning("the rules make the prompt richer: %s", self._why)
            if self._model is None or isinstance(error, OutOfMemory):
                self._failed_at_s = self._clock()
            return self._by_rules(prompt, kind)

    def _by_model(self, source: str, prompt: str, kind: Kind, canceled: Callable[[], bool]) -> Enhanced:
        if self._model is None:
            from gpu_worker.engines.qwen import QwenEnhancer  # noqa: PLC0415 - brings torch: the settings come first

            began = time.perf_counter()
            self._model = QwenEnhancer.load(source, device=self._device)
            LOG.info("loaded the enhancer %s in %.1f s", self._model.name, time.perf_counter() - began)
        try:
            text = self._model.enhance(prompt, kind, canceled)
        except OutOfMemory:
            self._make_room()
            text = self._model.enhance(prompt, kind, canceled)
        return Enhanced(text, self._model.name)

    def _by_rules(self, prompt: str, kind: Kind) -> Enhanced:
        return Enhanced(enhance(prompt, kind), f"{RULES} ({self._why})")


def with_enhanced_prompt(
    order: WorkOrder,
    enhancing: Enhancing,
    note: Callable[[JobPromptEnhanced], None],
    canceled: Callable[[], bool],
) -> WorkOrder:
    """The order with the prompt that is to be rendered: what an earlier attempt made stays, a new one is noted first.

    Raises RenderCanceled, and what `note` raises.
    """
    recipe = order.recipe
    if not recipe.enhance or order.enhanced_prompt is not None:
        return order
    made = enhancing.enhance(recipe.prompt, order.outputs[0].kind, canceled)
    note(JobPromptEnhanced(attempt=order.attempt, original=recipe.prompt, enhanced=made.text, enhancer=made.enhancer))
    return order.model_copy(update={"enhanced_prompt": made.text})
