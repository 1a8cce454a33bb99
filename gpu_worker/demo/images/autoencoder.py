"""Trains the autoencoder of the image demo model, on crops first and on whole pictures last."""
# mypy: allow-untyped-calls

from typing import Any

import torch

from gpu_worker.demo.images.data import crops, scene_and_picture, to_tensor
from gpu_worker.demo.images.model import PIXELS, autoencoder
from gpu_worker.demo.training_run import TrainingRun, is_due, set_rate

CROP_PIXELS = 64
BATCH = 16
WHOLE_BATCH = 4
"""The last steps see whole pictures, because the norms' statistics are those of all that is seen."""
WHOLE_SHARE = 0.2
LEARNING_RATE = 1e-3
KL_WEIGHT = 1e-6
"""Just enough to keep the latents from growing without end."""
SCALE_PICTURES = 512
"""So many give the mean and the spread of each latent channel."""


def train_autoencoder(run: TrainingRun, steps: int) -> Any:
    """Return the trained autoencoder; goes on from the run's checkpoint, and is quick when that is the last one."""
    torch.manual_seed(run.seed)
    vae: Any = autoencoder()
    vae.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    first = 0
    if state := run.load("autoencoder"):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in run.steps("autoencoder", first, steps):
        set_rate(optimizer, LEARNING_RATE * rate(step, steps))
        loss, off = losses(
            vae, batch(run.seed, step, steps), torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if is_due(step, steps):
            run.save("autoencoder", {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            run.log(f"autoencoder: mean error {off:.4f}, where pixels run from -1 to 1")
    set_scale(vae, run.seed)
    return vae


def rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: a short warm-up, then down in a straight line."""
    return min((step + 1) / 100, 1 - step / steps)


def batch(seed: int, step: int, steps: int) -> torch.Tensor:
    if step < steps * (1 - WHOLE_SHARE):
        pictures = crops(seed, step, BATCH, CROP_PIXELS)
    else:
        pictures = crops(seed, step, WHOLE_BATCH, PIXELS)
    return pictures.contiguous(memory_format=torch.channels_last)


def losses(vae: Any, pictures: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    """Return what to make small, and the mean absolute error of the pixels."""
    posterior = vae.encode(pictures).latent_dist
    again = vae.decode(posterior.sample(generator=generator)).sample
    off = (again - pictures).abs().mean()
    squared = (again - pictures).square().mean()
    loss = off + squared + KL_WEIGHT * posterior.kl().mean()
    return loss, float(off.detach())


def set_scale(vae: Any, seed: int) -> None:
    """Note each latent channel's mean and spread in the configuration, from where the pipelines read them."""
    vae.eval()
    latents = encode_pictures(vae, seed, SCALE_PICTURES)
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=spread.tolist())


@torch.no_grad()
def encode_pictures(vae: Any, seed: int, count: int) -> torch.Tensor:
    """Return the latents [count, 4, 16, 16] of the first training pictures, as the encoder gives them."""
    found = []
    for first in range(0, count, 32):
        pictures = [scene_and_picture(seed, number)[1] for number in range(first, min(first + 32, count))]
        found.append(vae.encode(to_tensor(pictures)).latent_dist.mean)
    return torch.cat(found)


def scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Return latents of unit variance, as the UNet sees them."""
    mean = torch.tensor(vae.config.latents_mean).reshape(1, -1, 1, 1)
    spread = torch.tensor(vae.config.latents_std).reshape(1, -1, 1, 1)
    return (latents - mean) / spread
