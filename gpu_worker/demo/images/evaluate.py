"""Draw prompts whose combinations training never saw, and measure whether the pictures show them.

Exit status 0 when every rate reaches its limit, 1 when one does not, 2 when there is no model.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domain.wording.negative_prompt import negative_prompt_for
from gpu_worker.demo import SDXL_DEMO
from gpu_worker.demo.images.measure import look
from gpu_worker.demo.world import Pixels, Scene, caption, combinations, random_scene
from gpu_worker.engines import ModelUnavailable, RenderedImage, RenderRequest

if TYPE_CHECKING:
    from gpu_worker.engines.diffusers.sdxl import SdxlEngine

PIXELS = 128
STEPS = 15
"""As the job type `sdxl_image_fast` has them."""
GUIDANCE = 2.0
"""As the catalog has it for this model."""
PROMPTS = 100
SEED = 1
IMAGE_LIMITS = {"background": 0.9, "colour": 0.9, "shape": 0.8}


@dataclass(frozen=True)
class Trial:
    """One prompt, what has to be on its picture, and the seed of the picture's noise."""

    scene: Scene
    prompt: str
    seed: int


@dataclass(frozen=True)
class Verdict:
    """The share of pictures that came out right, by what was asked, and how long one took."""

    rates: Mapping[str, float]
    seconds_each: float
    failures: Sequence[str]
    """A line for each picture with something wrong."""

    def line(self, limits: Mapping[str, float]) -> str:
        """Print the rates and the limits."""
        said = [f"{name} {rate:.0%} (at least {limits[name]:.0%})" for name, rate in self.rates.items()]
        return f"{', '.join(said)}; {self.seconds_each:.2f} s an image"

    def reaches(self, limits: Mapping[str, float]) -> bool:
        return all(rate >= limits[name] for name, rate in self.rates.items())


def main(argv: list[str]) -> int:
    """Return the exit status."""
    arguments = _parser().parse_args(argv)
    from gpu_worker.engines.diffusers.sdxl import SdxlEngine  # noqa: PLC0415 - brings torch, seconds after the options are checked

    try:
        engine = SdxlEngine.load(str(arguments.model))
    except ModelUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    verdict = judge(engine, held_out_trials(arguments.prompts), arguments.guidance, arguments.steps)
    sys.stdout.writelines(f"{failure}\n" for failure in verdict.failures)
    sys.stdout.write(
        f"{arguments.prompts} held-out prompts, guidance {arguments.guidance:g}, {arguments.steps} steps: "
        f"{verdict.line(IMAGE_LIMITS)}\n"
    )
    return 0 if verdict.reaches(IMAGE_LIMITS) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate-sdxl", description=__doc__)
    parser.add_argument("--model", type=Path, default=SDXL_DEMO)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    return parser


def held_out_trials(count: int) -> list[Trial]:
    """Return prompts of one thing each, spread evenly over all combinations that training never sees."""
    rng = np.random.default_rng(SEED)
    wanted = combinations(unseen=True)
    order = [int(number) for _ in range(0, count, len(wanted)) for number in rng.permutation(len(wanted))]
    trials = []
    for seed, number in enumerate(order[:count]):
        scene = scene_of(wanted[number], rng)
        trials.append(Trial(scene, caption(scene, rng), seed))
    return trials


def scene_of(combination: tuple[str, str, str], rng: np.random.Generator) -> Scene:
    """Return a scene of one thing of this combination, its size and place by chance."""
    while True:
        scene = random_scene(rng, unseen=True, single=1.0)
        if scene.triples() == (combination,):
            return scene


def judge(engine: "SdxlEngine", trials: Sequence[Trial], guidance: float, steps: int = STEPS) -> Verdict:
    """Draw each prompt through the worker's own engine, and look at what came out."""
    right = {"background": 0, "colour": 0, "shape": 0}
    failures, milliseconds = [], 0
    for trial in trials:
        picture, took_ms = draw(engine, trial.prompt, trial.seed, guidance, steps)
        milliseconds += took_ms
        seen, thing = look(picture), trial.scene.thing
        hits = {
            "background": seen.background == trial.scene.background,
            "colour": seen.colour == thing.colour,
            "shape": seen.shape == thing.shape,
        }
        for name, hit in hits.items():
            right[name] += hit
        if not all(hits.values()):
            failures.append(f"{trial.prompt} (seed {trial.seed}): {seen.colour} {seen.shape} on {seen.background}")
    rates = {name: count / len(trials) for name, count in right.items()}
    return Verdict(rates, milliseconds / 1000 / len(trials), failures)


def draw(engine: "SdxlEngine", prompt: str, seed: int, guidance: float, steps: int) -> tuple[Pixels, int]:
    """Return one picture, and the milliseconds that it took. As any job it gets the rule's negative prompt."""
    request = RenderRequest(prompt, negative_prompt_for(prompt), PIXELS, PIXELS, steps, guidance, (seed,))
    made = engine.render(request, on_step=lambda _done, _total: None, canceled=lambda: False)
    (rendered,) = [one for one in made if isinstance(one, RenderedImage)]  # its notes are for a job's owner
    return np.asarray(rendered.image, dtype=np.uint8), rendered.render_ms
