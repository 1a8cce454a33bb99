"""Draw a sheet of real outputs of the demo models, each above its prompt: pictures, then clips as rows of frames."""

import argparse
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpu_worker.demo import SDXL_DEMO, WAN_DEMO
from gpu_worker.demo.images import evaluate as images
from gpu_worker.demo.videos import evaluate as videos
from gpu_worker.demo.videos.motion import caption, random_moving_scene
from gpu_worker.demo.world import Pixels
from gpu_worker.engines.diffusers.sdxl import SdxlEngine

HELD_OUT = 8
MORE_PROMPTS = (
    "three small green triangles on a white background",
    "a large red circle left of a blue square on a yellow background",
    "two white hearts on a red background",
    "a yellow star above a purple ring on black",
)
"""Prompts with counts and two things, after those with one thing, which are the evaluation's first."""
CLIPS, CLIP_STEPS = 4, 25
"""The same values as in the job type `video_fast`."""
FRAMES_APART = 4
COLUMNS = 4
GAP = 12
TEXT_SIZE = 11
LETTERS_PER_PIXEL = 24 / 128
LINE_HEIGHT = 14
PAPER, INK, EDGE = (255, 255, 255), (40, 40, 40), (200, 200, 200)


@dataclass(frozen=True)
class Panel:
    """A picture and its prompt."""

    pixels: Pixels
    prompt: str


def main(argv: list[str]) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="contact-sheet", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/demo-contact-sheet.png"))
    arguments = parser.parse_args(argv)
    rows = [*_rows(_pictures(), COLUMNS), *_rows(_clips(), 1)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows).save(arguments.out, optimize=True)
    sys.stdout.write(f"{sum(map(len, rows))} outputs are in {arguments.out}.\n")
    return 0


def _pictures() -> list[Panel]:
    engine = SdxlEngine.load(str(SDXL_DEMO))
    wanted = [(trial.prompt, trial.seed) for trial in images.held_out_trials(HELD_OUT)]
    wanted += [(prompt, seed) for seed, prompt in enumerate(MORE_PROMPTS)]
    return [
        Panel(images.draw(engine, prompt, seed, images.GUIDANCE, images.STEPS)[0], prompt) for prompt, seed in wanted
    ]


def _clips() -> list[Panel]:
    pipeline = videos.load(WAN_DEMO)
    rng = np.random.default_rng(videos.SCENES_SEED)
    scenes = [random_moving_scene(rng, unseen=True) for _ in range(CLIPS)]
    return [
        Panel(
            np.concatenate(
                list(videos.make(pipeline, scene, seed, CLIP_STEPS, videos.GUIDANCE)[::FRAMES_APART]), axis=1
            ),
            caption(scene),
        )
        for seed, scene in enumerate(scenes)
    ]


def _rows(panels: list[Panel], columns: int) -> list[list[Panel]]:
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


def sheet(rows: list[list[Panel]]) -> Image.Image:
    """Lay out rows of panels, each panel with its prompt below."""
    heights = [GAP + max(panel.pixels.shape[0] + LINE_HEIGHT * len(lines_of(panel)) for panel in row) for row in rows]
    width = max(sum(panel.pixels.shape[1] + GAP for panel in row) for row in rows) + GAP
    paper = Image.new("RGB", (width, sum(heights) + GAP), PAPER)
    pen = ImageDraw.Draw(paper)
    font = ImageFont.load_default(TEXT_SIZE)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        x = GAP
        for panel in row:
            down, across = panel.pixels.shape[:2]
            paper.paste(Image.fromarray(np.ascontiguousarray(panel.pixels)), (x, y))
            pen.rectangle((x - 1, y - 1, x + across, y + down), outline=EDGE)
            pen.multiline_text((x, y + down + 3), "\n".join(lines_of(panel)), fill=INK, font=font, spacing=1)
            x += across + GAP
        y += height
    return paper


def lines_of(panel: Panel) -> list[str]:
    """Return the prompt in lines that fit the picture's width."""
    return textwrap.wrap(panel.prompt, round(panel.pixels.shape[1] * LETTERS_PER_PIXEL))
