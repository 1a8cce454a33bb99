"""A training run: its folder of checkpoints, its log, its random numbers and its learning rate."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

CHECKPOINT_STEPS = 200
"""Steps between checkpoints: an interruption loses at most this many."""
LOG_STEPS = 25
WARM_UP_STEPS = 100
DECAY_SHARE = 0.25
"""Share of all steps, at the end, over which the learning rate falls to zero."""


@dataclass(frozen=True)
class TrainingRun:
    """A folder and a seed; both together, on the same machine, give the same weights, interrupted or not."""

    folder: Path
    seed: int = 0

    def log(self, line: str) -> None:
        """Print a line with the time of day, and append it to `train.log`."""
        line = f"{time.strftime('%H:%M:%S')} {line}"
        print(line, flush=True)  # noqa: T201 - this is what a person who trains watches
        with (self.folder / "train.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def randomness(self, stage: str, step: int) -> np.random.Generator:
        """Return the random numbers of this step, and seed torch; no step depends on earlier ones."""
        rng = np.random.default_rng([self.seed, *stage.encode(), step])
        torch.manual_seed(int(rng.integers(2**31)))
        return rng

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint, completely or not at all."""
        fresh = self.folder / f"{name}.pt.new"
        torch.save(state, fresh)
        os.replace(fresh, self.folder / f"{name}.pt")

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the checkpoint of this name, or None if there is none yet."""
        file = self.folder / f"{name}.pt"
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, weights_only=True)
        return state

    def steps(self, stage: str, first: int, last: int) -> Iterator[int]:
        """Yield the remaining steps, and log the progress and the time per step."""
        began, since = time.monotonic(), first
        for step in range(first, last):
            yield step
            if (step + 1) % LOG_STEPS == 0:
                each = (time.monotonic() - began) / (step + 1 - since)
                began, since = time.monotonic(), step + 1
                self.log(f"{stage} step {step + 1} of {last}, {each:.2f} s a step")


def rate(step: int, steps: int) -> float:
    """Return the share of the full learning rate: a short rise, a plateau, and a fall over the last quarter.

    Because of the plateau, a run may be made longer or shorter while it runs.
    """
    return min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / max(DECAY_SHARE * steps, 1))


def set_rate(optimiser: torch.optim.Optimizer, rate_now: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate_now


def is_due(step: int, steps: int) -> bool:
    """Return whether to write a checkpoint after this step."""
    return (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps
