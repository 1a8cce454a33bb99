"""Train the video model's text encoder, then its transformer by flow matching over latents."""
# mypy: allow-untyped-calls

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_worker.demo.reading import NOTHING, Facts, Source, teach
from gpu_worker.demo.training_run import LOG_STEPS, TrainingRun, is_due, rate, set_rate
from gpu_worker.demo.videos.latents import Latents
from gpu_worker.demo.videos.model import (
    FLOW_SHIFT,
    LATENT_PIXELS,
    PATCH,
    set_padding_aside,
    text_encoder,
    tokenizer,
    transformer,
)
from gpu_worker.demo.videos.motion import ANSWERS, caption, facts_of, random_moving_scene
from gpu_worker.demo.videos.t5_tokens import QUALITY_WORDS, TOKENS_MAX

STAGE = "flow"
LEARNING_RATE = 1e-3
BATCH = 16
EMBELLISHED_SHARE = 0.15
UNSAID_SHARE = 0.12
"""Of clips whose caption the model does not see: guidance compares with these."""
GIVEN_FIRST_FRAME_EVERY = 4
"""Steps from one that learns to continue a first frame to the next."""
EMA_DECAY = 0.998
TOKENS_TRAINED = 20
"""Longest caption, its end, and some padding; the padding weighs as much as that of the pipelines' 512 tokens."""
TIMESTEPS = 1000


class FoldedPadding(WanAttnProcessor):
    """Cross-attention in which a few padding tokens weigh as much as all of those that the pipelines append."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: torch.Tensor | None = None
        """Logarithms, [clips, 1, 1, tokens]."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,  # noqa: ARG002 - the transformer gives none
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        mixed: torch.Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, self.weights, rotary_emb)
        return mixed


@dataclass(frozen=True)
class Flow:
    """What is trained, and the slow mean of its weights that is published."""

    text: Any
    """Can read already, and is not changed."""
    transformer: Any
    tokenizer: Any
    padding: FoldedPadding
    slow_transformer: Any

    def parts(self) -> dict[str, Any]:
        return {"transformer": self.transformer, "slow_transformer": self.slow_transformer}


def train_text_encoder(run: TrainingRun, steps: int) -> Any:
    """Return the text encoder as it is published: able to read, and frozen."""
    run.randomness("text encoder", 0)
    tokens = tokenizer()

    def encode(encoder: Any, texts: Sequence[str]) -> Mapping[str, Source]:
        """Return the states of each text; each of them has read the whole of it."""
        read = tokens(list(texts), padding=True, return_tensors="pt")
        return {"states": (encoder(read.input_ids, read.attention_mask).last_hidden_state, read.attention_mask)}

    encoder = text_encoder()
    teach(run, encoder, encode, text_to_read, ANSWERS, steps)
    return encoder


def text_to_read(rng: np.random.Generator, unseen: bool) -> tuple[str, Facts]:
    """Return a caption and its facts; now and then a text of no facts."""
    if not unseen and rng.random() < UNSAID_SHARE:
        return _unsaid(rng), (NOTHING,) * len(ANSWERS)
    scene = random_moving_scene(rng, unseen=unseen)
    return _embellished(caption(scene, rng), rng), facts_of(scene)


def _embellished(text: str, rng: np.random.Generator) -> str:
    """Return a text with words around it that say nothing, as people write them, or as it is."""
    if rng.random() >= EMBELLISHED_SHARE:
        return text
    more = _unsaid(rng)
    return f"{more} {text}" if rng.random() < 0.5 else f"{text}, {more}"


def new_flow(text: Any) -> Flow:
    """Return a flow with the weights that torch's random state gives."""
    flow: Any = transformer()
    set_padding_aside(flow)
    slow_flow: Any = transformer()
    slow_flow.load_state_dict(flow.state_dict())
    padding = FoldedPadding()
    for block in flow.blocks:
        block.attn2.set_processor(padding)
    return Flow(text, flow, tokenizer(), padding, slow_flow)


def train_flow(run: TrainingRun, text: Any, data: Latents, steps: int) -> Flow:
    """Train, or go on from the last checkpoint."""
    run.randomness(f"{STAGE} weights", 0)
    flow = new_flow(text)
    weights = list(flow.transformer.parameters())
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    first = 0
    if state := run.load(STAGE):
        for name, part in flow.parts().items():
            part.load_state_dict(state[name])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    losses: list[float] = []
    for step in run.steps(STAGE, first, steps):
        set_rate(optimiser, LEARNING_RATE * rate(step, steps))
        losses.append(_learn(flow, optimiser, data, run.randomness(STAGE, step), step))
        if (step + 1) % LOG_STEPS == 0:
            run.log(f"{STAGE} mean loss {np.mean(losses[-LOG_STEPS:]):.4f}")
        if is_due(step, steps):
            states = {name: part.state_dict() for name, part in flow.parts().items()}
            run.save(STAGE, {**states, "optimiser": optimiser.state_dict(), "step": step + 1})
    return flow


def _learn(flow: Flow, optimiser: torch.optim.Optimizer, data: Latents, rng: np.random.Generator, step: int) -> float:
    chosen = rng.integers(len(data.scenes), size=BATCH)
    clips = data.clips[torch.from_numpy(chosen)]
    texts = [caption(data.scenes[int(number)], rng) for number in chosen]
    texts = [_unsaid(rng) if rng.random() < UNSAID_SHARE else text for text in texts]
    noise = torch.randn_like(clips)
    even = torch.rand(BATCH)
    sigma = FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)
    mixed = clips + sigma.view(-1, 1, 1, 1, 1) * (noise - clips)
    timestep = sigma * TIMESTEPS
    learned = slice(None)
    if step % GIVEN_FIRST_FRAME_EVERY == 0:
        mixed[:, :, 0], learned = clips[:, :, 0], slice(1, None)
        timestep = timesteps_after_a_given_frame(timestep, clips.shape[2])
    # The fused attention of CPUs takes three times as long backwards on so few tokens.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        flow_of = flow.transformer(mixed, timestep, encoded(flow, texts), return_dict=False)[0]
    loss = (flow_of.float() - (noise - clips))[:, :, learned].square().mean()
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.transformer.parameters(), 1.0)
    optimiser.step()
    decay = min(EMA_DECAY, (step + 1) / (step + 10))
    with torch.no_grad():
        slow, now = list(flow.slow_transformer.parameters()), list(flow.transformer.parameters())
        torch._foreach_lerp_(slow, now, 1 - decay)
    return float(loss.detach())


def timesteps_after_a_given_frame(timestep: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the timestep of each token, [clips, tokens], as WanImageToVideoPipeline gives them: 0 in frame one."""
    tokens_of_a_frame = (LATENT_PIXELS // PATCH[1]) * (LATENT_PIXELS // PATCH[2])
    each = timestep[:, None].repeat(1, frames * tokens_of_a_frame)
    each[:, :tokens_of_a_frame] = 0
    return each


def _unsaid(rng: np.random.Generator) -> str:
    """Return a prompt that says nothing: empty, or such words as negative prompts are made of."""
    if rng.random() < 0.5:
        return ""
    return ", ".join(str(word) for word in rng.choice(QUALITY_WORDS, size=int(rng.integers(1, 6)), replace=False))


def encoded(flow: Flow, texts: list[str]) -> torch.Tensor:
    """Return texts as the pipelines encode them, [clips, tokens, width], and set how much the padding weighs."""
    tokens = flow.tokenizer(
        texts, padding="max_length", max_length=TOKENS_TRAINED, truncation=True, return_tensors="pt"
    )
    mask = tokens.attention_mask
    lengths = mask.sum(1, keepdim=True).clamp(max=TOKENS_TRAINED - 1)
    mask = (torch.arange(TOKENS_TRAINED) < lengths).long()
    folded = torch.tensor([math.log((TOKENS_MAX - int(n)) / (TOKENS_TRAINED - int(n))) for n in lengths])
    flow.padding.weights = ((1 - mask) * folded[:, None]).view(len(texts), 1, 1, TOKENS_TRAINED)
    with torch.no_grad():
        text: torch.Tensor = flow.text(tokens.input_ids, mask).last_hidden_state
    return text.mul(mask[..., None])
