"""Turn drawn clips into latents, once, because the flow learns from each of them many times."""
# mypy: allow-untyped-calls

from dataclasses import astuple, dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan

from gpu_worker.demo.training_run import TrainingRun
from gpu_worker.demo.videos.autoencoder import as_input
from gpu_worker.demo.videos.motion import MovingScene, film, moving_scenes

STAGE = "latents"
CLIPS_PER_CALL = 8


@dataclass(frozen=True)
class Latents:
    """Clips as latents, [clips, channels, frames, height, width], each channel with mean 0 and deviation 1."""

    clips: torch.Tensor
    scenes: list[MovingScene]
    mean: list[float]
    std: list[float]


def latents_of(run: TrainingRun, model: AutoencoderKLWan, count: int) -> Latents:
    """Draw and encode `count` clips, or take those of the checkpoint."""
    state = run.load(STAGE)
    if state is None:
        state = _encode(run, model, count)
        run.save(STAGE, state)
    scenes = [MovingScene(*scene) for scene in state["scenes"]]
    return Latents(state["clips"].float(), scenes, state["mean"], state["std"])


def _encode(run: TrainingRun, model: Any, count: int) -> dict[str, Any]:
    rng = run.randomness(STAGE, 0)
    scenes = moving_scenes(count, rng)
    parts = []
    for start in range(0, count, CLIPS_PER_CALL):
        films = [film(scene, rng) for scene in scenes[start : start + CLIPS_PER_CALL]]
        with torch.no_grad():
            parts.append(model.encode(as_input(films)).latent_dist.mode())
        if start % (50 * CLIPS_PER_CALL) == 0:
            run.log(f"{STAGE} {start} of {count} clips")
    clips = torch.cat(parts)
    mean, std = clips.mean((0, 2, 3, 4)), clips.std((0, 2, 3, 4))
    clips = (clips - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
    return {
        "clips": clips.half(),
        "scenes": [astuple(scene) for scene in scenes],
        "mean": mean.tolist(),
        "std": std.tolist(),
    }
