"""Train the image demo model from nothing: autoencoder, latents, UNet with text encoders; then write its folder.

Stop it whenever you like: the same command goes on from the last checkpoint in the folder.
"""
# mypy: allow-untyped-calls

import argparse
import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray

from gpu_worker.demo import SDXL_DEMO
from gpu_worker.demo.images.autoencoder import encode_pictures, scaled, train_autoencoder
from gpu_worker.demo.images.data import (
    ANSWERS,
    CaptionTokens,
    captions,
    negative_prompt,
    scene_and_picture,
    text_to_read,
)
from gpu_worker.demo.images.evaluate import IMAGE_LIMITS, held_out_trials, judge
from gpu_worker.demo.images.model import PIXELS, assemble, encode_text, save, signal_and_noise, text_encoders, unet
from gpu_worker.demo.reading import Source, teach
from gpu_worker.demo.training_run import TrainingRun, is_due, rate, set_rate
from gpu_worker.engines.diffusers.sdxl import SdxlEngine

BATCH = 32
LEARNING_RATE = 1e-3
MEMORY = 0.999
"""Of the running mean of the weights, which is what is written in the end."""
EMPTY_SHARE = 0.1
"""Of captions, replaced by what guidance compares with: nothing at all, no words, or a negative prompt."""
ODD_SIZE_SHARE = 0.1
"""Share of pictures labelled with another size: the model shall draw the same when it is asked for another size."""
GRADIENT_MAX = 1.0
CHECK_STEPS = 1400
CHECK_PROMPTS = 50


def main(argv: list[str]) -> int:
    """Return the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(folder, arguments.seed)
    vae = train_autoencoder(run, arguments.autoencoder_steps)
    encoders = train_text_encoders(run, arguments.reading_steps)
    painter = LearningUNet(run, vae, encoders, arguments.pictures)
    painter.train(arguments.steps, arguments.check_steps)
    save(painter.pipeline(), arguments.out)
    run.log(f"the model is in {arguments.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train-sdxl", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/demo-sdxl"), help="checkpoints and the log")
    parser.add_argument("--out", type=Path, default=SDXL_DEMO, help="the finished model")
    parser.add_argument("--autoencoder-steps", type=int, default=2800)
    parser.add_argument("--reading-steps", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=8_400)
    parser.add_argument("--pictures", type=int, default=8_000)
    parser.add_argument("--check-steps", type=int, default=CHECK_STEPS, help="between looks at held-out prompts")
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    return parser


def train_text_encoders(run: TrainingRun, steps: int) -> Any:
    """Return both text encoders as they are published: able to read, and frozen."""
    run.randomness("text encoders", 0)
    encoders: Any = torch.nn.ModuleList(text_encoders())
    tokens = CaptionTokens()

    def encode(encoders: Any, texts: Sequence[str]) -> Mapping[str, Source]:
        """Return states and pooled text: what the UNet gets. A state has read what comes before it: the last all."""
        numbers = tokens(list(texts))
        states, pooled = encode_text((encoders[0], encoders[1]), numbers)
        first, second = states.chunk(2, dim=-1)
        whole = (numbers == tokens.end).float()
        return {
            "first": (first, whole),
            "second": (second, whole),
            "pooled": (pooled[:, None], torch.ones(len(texts), 1)),
        }

    teach(run, encoders, encode, text_to_read, ANSWERS, steps)
    return encoders


class LearningUNet:
    """The UNet while it learns, and the running mean of its weights."""

    def __init__(self, run: TrainingRun, vae: Any, encoders: Any, pictures: int) -> None:
        self._run = run
        self._vae = vae
        self._encoders = (encoders[0], encoders[1])
        run.randomness("unet weights", 0)
        net: Any = unet()
        self._net = net.to(memory_format=torch.channels_last)
        self._mean = copy.deepcopy(self._net).requires_grad_(False).eval()
        # The usual attention is slow to go back through on a CPU.
        self._net.set_attn_processor(AttnProcessor())
        self._optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01
        )
        self._tokens = CaptionTokens()
        self._scenes = [scene_and_picture(run.seed, number)[0] for number in range(pictures)]
        self._latents = self._encoded(pictures)

    def _encoded(self, pictures: int) -> torch.Tensor:
        """Return the latents of all pictures; they are encoded once."""
        if state := self._run.load("latents"):
            return scaled(self._vae, state["latents"])
        latents = encode_pictures(self._vae, self._run.seed, pictures)
        self._run.save("latents", {"latents": latents})
        self._run.log(f"encoded {pictures} pictures")
        return scaled(self._vae, latents)

    def train(self, steps: int, check_steps: int) -> None:
        """Go on from the last checkpoint up to `steps`."""
        first = self._resume()
        losses: list[float] = []
        for step in self._run.steps("unet", first, steps):
            set_rate(self._optimizer, LEARNING_RATE * rate(step, steps))
            loss = self._loss(step)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._net.parameters(), GRADIENT_MAX)
            self._optimizer.step()
            update_mean(self._mean.parameters(), self._net.parameters(), min(MEMORY, (step + 1) / (step + 10)))
            losses.append(float(loss.detach()))
            if is_due(step, steps):
                self._save(step + 1)
                self._run.log(f"unet: loss {np.mean(losses):.4f}")
                losses.clear()
            if (step + 1) % check_steps == 0:
                self._check()

    def _resume(self) -> int:
        state = self._run.load("unet")
        if state is None:
            return 0
        self._net.load_state_dict(state["net"])
        self._mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])

    def _save(self, step: int) -> None:
        parts = {"net": self._net, "mean": self._mean, "optimizer": self._optimizer}
        self._run.save("unet", {"step": step, **{name: part.state_dict() for name, part in parts.items()}})

    def _loss(self, step: int) -> torch.Tensor:
        """Return how far the predicted velocity is from the true one, for the pictures of this step."""
        rng = self._run.randomness("unet", step)
        numbers = rng.integers(0, len(self._latents), BATCH)
        clean = self._latents[torch.from_numpy(numbers)]
        texts = captions([self._scenes[number] for number in numbers], self._run.seed, step)
        times = torch.from_numpy(times_of_noise(rng))
        keep, spoil = signal_and_noise(times)
        noise = torch.randn_like(clean)
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = self._conditions(texts, rng)
            velocity = self._net(
                (keep * clean + spoil * noise).contiguous(memory_format=torch.channels_last),
                times,
                states,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes(rng)},
            ).sample
        return torch.nn.functional.mse_loss(velocity.float(), keep * noise - spoil * clean)

    def _conditions(self, texts: list[str], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoded texts, some of them replaced by one of the three sorts of nothing."""
        kinds = np.where(rng.random(BATCH) < EMPTY_SHARE, rng.integers(1, 4, BATCH), 0)
        said = [
            text if kind in {0, 1} else "" if kind == 2 else negative_prompt(rng)
            for text, kind in zip(texts, kinds, strict=True)
        ]
        with torch.no_grad():
            states, pooled = encode_text(self._encoders, self._tokens(said))
        there = torch.from_numpy((kinds != 1).astype(np.float32))
        return states * there[:, None, None], pooled * there[:, None]

    def _check(self) -> None:
        engine = SdxlEngine(self.pipeline(), "in training")
        for guidance in (3.0, 6.0):
            verdict = judge(engine, held_out_trials(CHECK_PROMPTS), guidance)
            self._run.log(f"guidance {guidance:g}: {verdict.line(IMAGE_LIMITS)}")

    def pipeline(self) -> Any:
        """Return the pipeline with the mean weights."""
        return assemble(self._vae, self._mean, self._encoders)


@torch.no_grad()
def update_mean(mean: Iterable[torch.Tensor], now: Iterable[torch.Tensor], memory: float) -> None:
    torch._foreach_lerp_(list(mean), list(now), 1 - memory)


def times_of_noise(rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one time of 0 to 999 out of each of BATCH spans: the loss hangs less on chance.

    Three in four are above 500: what is drawn, where and in which colour is settled there; below, it is cleaned.
    """
    even = (np.arange(BATCH) + rng.random(BATCH)) / BATCH
    return (1000 * np.sqrt(even)).astype(np.int64)


def sizes(rng: np.random.Generator) -> torch.Tensor:
    """Return what the pipeline tells of a whole picture's size, [batch, 6]; now and then any other."""
    usual = np.tile([PIXELS, PIXELS, 0, 0, PIXELS, PIXELS], (BATCH, 1))
    odd = rng.integers(0, 65, (BATCH, 6)) * 8
    return torch.from_numpy(np.where(rng.random((BATCH, 1)) < ODD_SIZE_SHARE, odd, usual)).float()
