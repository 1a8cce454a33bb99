"""Let the video demo model make clips of scenes that it never saw, and measure what they show."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from PIL import Image

from gpu_worker.demo import WAN_DEMO
from gpu_worker.demo.videos.measure import measure
from gpu_worker.demo.videos.motion import FRAMES, PIXELS, Clip, MovingScene, caption, film, random_moving_scene

THRESHOLDS = {"colour": 0.9, "direction": 0.8}
"""The least share of clips that have to be right."""
SCENES_SEED = 20_000
GUIDANCE = 3.0
"""As the catalog has it for this model."""


def main(argv: list[str]) -> int:
    """Print the rates as JSON; return 1 where one is under its threshold."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipeline = load(arguments.weights, given_first_frame=arguments.first_frame)
    rng = np.random.default_rng(SCENES_SEED)
    scenes = [random_moving_scene(rng, unseen=True) for _ in range(arguments.prompts)]
    began = time.monotonic()
    right: dict[str, list[bool]] = {"colour": [], "background": [], "direction": []}
    for number, scene in enumerate(scenes):
        first = film(scene, rng)[0] if arguments.first_frame else None
        clip = make(pipeline, scene, number, arguments.steps, arguments.guidance, first)
        seen = measure(clip)
        for what, results in right.items():
            results.append(getattr(seen, what) == getattr(scene, what))
        if arguments.clips:
            _keep(clip, scene, arguments.clips / f"{number:03}.png")
    rates = {what: round(float(np.mean(results)), 3) for what, results in right.items()}
    report = {
        **rates,
        "prompts": len(scenes),
        "steps": arguments.steps,
        "guidance": arguments.guidance,
        "first_frame": arguments.first_frame,
        "seconds_a_clip": round((time.monotonic() - began) / len(scenes), 2),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return int(any(rates[what] < least for what, least in THRESHOLDS.items()))


def load(folder: Path, *, given_first_frame: bool = False) -> Any:
    """Load the model in full precision, as workers do on a CPU."""
    kind: Any = WanImageToVideoPipeline if given_first_frame else WanPipeline
    pipeline = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make(
    pipeline: Any, scene: MovingScene, seed: int, steps: int, guidance: float, first_frame: Clip | None = None
) -> Clip:
    """Return the model's clip for a scene's caption; it goes on from `first_frame` where there is one."""
    given = {} if first_frame is None else {"image": Image.fromarray(first_frame)}
    frames = pipeline(
        prompt=caption(scene),
        width=PIXELS,
        height=PIXELS,
        num_frames=FRAMES,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
        **given,
    ).frames[0]
    clip: Clip = (frames * 255).round().astype(np.uint8)
    return clip


def _keep(clip: Clip, scene: MovingScene, file: Path) -> None:
    """Write every fourth frame side by side, named after the scene."""
    file.parent.mkdir(parents=True, exist_ok=True)
    name = "-".join((file.stem, scene.colour, scene.shape, scene.direction, scene.background))
    Image.fromarray(np.concatenate(list(clip[::4]), axis=1)).save(file.with_stem(name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate-wan", description=__doc__)
    parser.add_argument("--weights", type=Path, default=WAN_DEMO, help="the model's folder")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--first-frame", action="store_true", help="give the first frame, and measure what follows it")
    parser.add_argument("--clips", type=Path, help="a folder for the clips, as rows of frames")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    return parser
