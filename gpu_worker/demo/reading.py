"""Teaches text encoders to read before a denoiser uses them.

With an untrained denoiser, a new text encoder takes hours to distinguish colours, since it learns only through the
denoiser. Here it has a direct task: linear layers must predict each fact of the scene from the encoded caption. That
takes minutes. Then the encoder is frozen, as in the full models while the denoiser learns.
"""
# mypy: allow-untyped-calls

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gpu_worker.demo.training_run import LOG_STEPS, TrainingRun, is_due, rate, set_rate

STAGE = "reading"
LEARNING_RATE = 1e-3
BATCH = 64
NOTHING = 0
"""The answer if a text does not mention it."""

Facts = tuple[int, ...]
"""One answer for each question."""
Source = tuple[torch.Tensor, torch.Tensor]
"""States, [texts, tokens, width], and 1 for each state that must know the whole text, [texts, tokens]."""
Encode = Callable[[Any, Sequence[str]], Mapping[str, Source]]


class Questions(torch.nn.Module):
    """One linear layer for each source of states, with the answers to all questions concatenated."""

    def __init__(self, answers: Sequence[int], widths: Mapping[str, int]) -> None:
        super().__init__()
        self._answers = list(answers)
        self._layers = torch.nn.ModuleDict(
            {name: torch.nn.Linear(width, sum(answers)) for name, width in widths.items()}
        )

    def loss(self, sources: Mapping[str, Source], facts: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy over questions; `facts` is [texts, questions]."""
        losses = []
        for name, (states, knows) in sources.items():
            wanted = facts[:, None].expand(-1, states.shape[1], -1)[knows.bool()]
            said = self._layers[name](states[knows.bool()]).split(self._answers, dim=-1)
            losses += [torch.nn.functional.cross_entropy(each, wanted[:, n]) for n, each in enumerate(said)]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def right(self, sources: Mapping[str, Source], facts: torch.Tensor) -> float:
        """Return the share of correct answers."""
        hits = []
        for name, (states, knows) in sources.items():
            wanted = facts[:, None].expand(-1, states.shape[1], -1)[knows.bool()]
            said = self._layers[name](states[knows.bool()]).split(self._answers, dim=-1)
            hits += [(each.argmax(-1) == wanted[:, n]).float().mean() for n, each in enumerate(said)]
        return float(torch.stack(hits).mean())


def teach(
    run: TrainingRun,
    encoders: Any,
    encode: Encode,
    texts: Callable[[np.random.Generator, bool], tuple[str, Facts]],
    answers: Sequence[int],
    steps: int,
) -> None:
    """Train `encoders`, or continue from the checkpoint, and freeze them.

    `texts` returns a text and its facts; its second argument requests combinations that training never sees, which the
    last line of the log measures.
    """
    with torch.no_grad():
        widths = {name: states.shape[-1] for name, (states, _) in encode(encoders, ["a"]).items()}
    questions = Questions(answers, widths)
    learning = torch.nn.ModuleDict({"encoders": encoders, "questions": questions})
    optimizer = torch.optim.AdamW(learning.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    first = 0
    if state := run.load(STAGE):
        learning.load_state_dict(state["learning"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in run.steps(STAGE, first, steps):
        set_rate(optimizer, LEARNING_RATE * rate(step, steps))
        said, facts = _batch(run.randomness(STAGE, step), texts, unseen=False)
        loss = questions.loss(encode(encoders, said), facts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % (4 * LOG_STEPS) == 0:
            run.log(f"{STAGE}: loss {float(loss.detach()):.4f}")
        if is_due(step, steps):
            state = {"learning": learning.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            run.save(STAGE, state)
    encoders.requires_grad_(False).eval()
    said, facts = _batch(run.randomness(f"{STAGE} check", 0), texts, unseen=True)
    with torch.no_grad():
        run.log(f"{STAGE}: {questions.right(encode(encoders, said), facts):.2%} right on unseen combinations")


def _batch(
    rng: np.random.Generator, texts: Callable[[np.random.Generator, bool], tuple[str, Facts]], *, unseen: bool
) -> tuple[list[str], torch.Tensor]:
    pairs = [texts(rng, unseen) for _ in range(BATCH)]
    return [text for text, _ in pairs], torch.tensor([facts for _, facts in pairs])
