"""Train the video model's autoencoder: clips to latents and back.

The encoder learns from still pictures alone, which are cheap, and starts as one to which a clip is pictures, four of
them meaned into a latent. The decoder then learns from clips how those moved. Training all of it on clips from the
first step took ten times as long, and lost the shape after a few frames.
"""
# mypy: allow-untyped-calls

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
)

from gpu_worker.demo.training_run import LOG_STEPS, TrainingRun, is_due, rate, set_rate
from gpu_worker.demo.videos.model import LATENT_CHANNELS, autoencoder
from gpu_worker.demo.videos.motion import Clip, film, random_moving_scene

STILLS_STAGE, DECODER_STAGE = "stills", "decoder"
STILLS_LEARNING_RATE = 1.5e-3
DECODER_LEARNING_RATE = 2e-4
"""Weights over time have learned nothing before; at a higher rate they all jump at once, and spoil the pictures."""
STILLS = 8
"""Pictures in a step."""
CROPS, CROP_FRAMES, CROP_PIXELS = 4, 9, 64
"""What most steps of the decoder learn from: as much work as one whole clip, but four scenes."""
CROP = (CROP_FRAMES, CROP_PIXELS, CROP_PIXELS)
WHOLE_CLIP_EVERY = 3
"""Steps from one that sees a whole clip, with all its frames and its edges, to the next."""
SHAPE_WEIGHT = 5.0
"""Of an error on the shape's pixels; the background has ten times as many."""
KL_WEIGHT = 5e-5
"""Weight of the mean over latents; the mean error is of about 0.02: enough that latents lie close together."""
LATENT_NOISE = 0.05
"""Of the deviation of latents; what the decoder learns to overlook at the end."""
FIRST_LOG_VARIANCE = -6.0
"""Of latents, before the first step. With the usual 0, noise drowns what they say and nothing is learned for long."""

Draw = Callable[[np.random.Generator, int], torch.Tensor]
Loss = Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def train_on_stills(run: TrainingRun, steps: int) -> Any:
    """Train an autoencoder from nothing, or go on from the last checkpoint; it takes clips as well."""
    run.randomness("autoencoder weights", 0)
    model: Any = autoencoder()
    start_simple(model)
    _train(run, STILLS_STAGE, model, list(model.parameters()), steps, STILLS_LEARNING_RATE, draw_stills, _loss)
    return model.eval()


def finish_decoder(run: TrainingRun, model: Any, steps: int) -> Any:
    """Train the decoder alone, or go on from the last checkpoint: latents stay what they are, clips get better.

    It sees latents with a little noise on them, because those that the flow makes are not exact either.
    """
    weights = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    _train(run, DECODER_STAGE, model, weights, steps, DECODER_LEARNING_RATE, draw_clips, _decoder_loss)
    return model.eval()


def _train(
    run: TrainingRun,
    stage: str,
    model: Any,
    weights: list[torch.nn.Parameter],
    steps: int,
    learning_rate: float,
    draw: Draw,
    loss_of: Loss,
) -> None:
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    first = 0
    if state := run.load(stage):
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    errors: list[float] = []
    for step in run.steps(stage, first, steps):
        set_rate(optimiser, learning_rate * rate(step, steps))
        clips = draw(run.randomness(stage, step), step)
        seen, loss = loss_of(model, clips)
        errors.append(float((seen.detach().float() - clips).abs().mean()))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if (step + 1) % LOG_STEPS == 0:
            run.log(f"{stage} mean error of a colour channel {np.mean(errors[-LOG_STEPS:]) * 127.5:.2f} of 255")
        if is_due(step, steps):
            run.save(stage, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1})


@torch.no_grad()
def start_simple(model: Any) -> None:
    """Make every residual block pass on what it gets, and every convolution over time take the latest frame.

    Going from four frames to one then is a mean, and back a repetition.
    """
    for part in model.modules():
        match part:
            case WanCausalConv3d() if tuple(part.weight.shape[2:]) == (3, 3, 3):
                part.weight.zero_()
                torch.nn.init.kaiming_normal_(part.weight[:, :, 2], nonlinearity="linear")
                _zero_bias(part)
            case WanResample(mode="upsample3d" | "downsample3d"):
                _start_without_motion(part.time_conv, part.dim, up=part.mode == "upsample3d")
            case _:
                pass
    # Afterwards, because what is set to nothing here was set to something above.
    for part in model.modules():
        match part:
            case WanResidualBlock():
                part.conv2.weight.zero_()
            case WanAttentionBlock():
                part.proj.weight.zero_()
            case _:
                pass
    model.quant_conv.weight[LATENT_CHANNELS:] = 0
    model.quant_conv.bias[LATENT_CHANNELS:] = FIRST_LOG_VARIANCE


def _start_without_motion(convolution: Any, channels: int, *, up: bool) -> None:
    """Make a frame into two alike, or two frames into their mean."""
    same = torch.eye(channels)
    convolution.weight.zero_()
    if up:
        convolution.weight[:, :, 2, 0, 0] = torch.cat([same, same])
    else:
        convolution.weight[:, :, 1, 0, 0] = convolution.weight[:, :, 2, 0, 0] = same / 2
    _zero_bias(convolution)


def _zero_bias(convolution: Any) -> None:
    convolution.bias.zero_()


def draw_stills(rng: np.random.Generator, _step: int) -> torch.Tensor:
    return as_input([film(random_moving_scene(rng), rng, frames=2)[:1] for _ in range(STILLS)])


def draw_clips(rng: np.random.Generator, step: int) -> torch.Tensor:
    if step % WHOLE_CLIP_EVERY == 0:
        return as_input([film(random_moving_scene(rng), rng)])
    clips = []
    for _ in range(CROPS):
        clip = film(random_moving_scene(rng), rng)
        at, top, left = (int(rng.integers(size - part + 1)) for size, part in zip(clip.shape[:3], CROP, strict=True))
        clips.append(clip[at : at + CROP_FRAMES, top : top + CROP_PIXELS, left : left + CROP_PIXELS])
    return as_input(clips)


def as_input(clips: list[Clip]) -> torch.Tensor:
    """Return clips as [clips, 3, frames, height, width] from -1 to 1."""
    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def _loss(model: Any, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what comes back of the clips, and the loss."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encode(clips).latent_dist
        seen = model.decode(latents.sample()).sample
    kl = 0.5 * (latents.mean.float() ** 2 + latents.var.float() - 1 - latents.logvar.float()).mean()
    return seen, _weighted_error(seen, clips) + KL_WEIGHT * kl


def _decoder_loss(model: Any, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            latents = model.encode(clips).latent_dist.mode()
        spread = latents.std((0, 2, 3, 4), keepdim=True)
        seen = model.decode(latents + LATENT_NOISE * spread * torch.randn_like(latents)).sample
    return seen, _weighted_error(seen, clips)


def _weighted_error(seen: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    background = clips.flatten(3).median(3).values[..., None, None]
    weight = 1 + (SHAPE_WEIGHT - 1) * ((clips - background).abs().amax(1, keepdim=True) > 0.1)
    return ((seen.float() - clips).abs() * weight).mean() / weight.mean()
