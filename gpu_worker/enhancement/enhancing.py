"""Enhance prompts on a worker: with its language model if it works, else by the rules."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from domain.events import JobPromptEnhanced
from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from gpu_worker.engines import OutOfMemory, RenderCanceled
from services.messaging.wire import WorkOrder
from services.observability.redaction import one_line

if TYPE_CHECKING:
    from gpu_worker.engines.language.chat_model import QwenEnhancer

LOG = logging.getLogger("darkroom.worker")

FAILURE_KEPT_S: Final = 300.0
"""Seconds before a failed language model is tried again: each try may evict the loaded image models."""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced prompt, and its enhancer."""

    text: str
    enhancer: str


class Enhancing:
    """The enhancer of a worker, loaded on first use. Used by one thread at a time, the render thread."""

    def __init__(
        self,
        source: str | None = None,
        device: str | None = None,
        make_room: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a folder or hub id; None for only the rules. `make_room` drops every image model from memory."""
        self.source = source
        self._device = device
        self._make_room = make_room
        self._clock = clock
        self._model: QwenEnhancer | None = None
        self._failed_at_s = float("-inf")
        self._why = ""

    def enhance(self, prompt: str, kind: Kind, canceled: Callable[[], bool] = lambda: False) -> Enhanced:
        """The enhanced prompt. Raises only RenderCanceled: if the model fails, the rules are used."""
        if self.source is None:
            return Enhanced(enhance(prompt, kind), RULES)
        if self._clock() - self._failed_at_s < FAILURE_KEPT_S:
            return self._by_rules(prompt, kind)
        try:
            return self._by_model(self.source, prompt, kind, canceled)
        except RenderCanceled:
            raise
        except Exception as error:  # the image matters more than an enhanced prompt, whatever failed
            name = self.source.rstrip("/").rpartition("/")[2]
            self._why = f"{name} failed: {one_line(error)}"
            LOG.warning("the rules make the prompt richer: %s", self._why)
            if self._model is None or isinstance(error, OutOfMemory):
                self._failed_at_s = self._clock()
            return self._by_rules(prompt, kind)

    def _by_model(self, source: str, prompt: str, kind: Kind, canceled: Callable[[], bool]) -> Enhanced:
        if self._model is None:
            from gpu_worker.engines.language.chat_model import QwenEnhancer  # noqa: PLC0415 - brings torch: the settings come first

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
    """The order with the prompt to render: an earlier enhancement is kept, a new one is first recorded as a note.

    Raises RenderCanceled, and exceptions of `note`.
    """
    recipe = order.recipe
    if not recipe.enhance or order.enhanced_prompt is not None:
        return order
    made = enhancing.enhance(recipe.prompt, order.outputs[0].kind, canceled)
    note(JobPromptEnhanced(attempt=order.attempt, original=recipe.prompt, enhanced=made.text, enhancer=made.enhancer))
    return order.model_copy(update={"enhanced_prompt": made.text})
