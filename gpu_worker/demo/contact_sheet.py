"""Draw a sheet of real outputs of the image demo model, each with its prompt below."""

import argparse
import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpu_worker.demo import SDXL_DEMO
from gpu_worker.demo.images.evaluate import GUIDANCE, PIXELS, STEPS, draw, held_out_trials
from gpu_worker.demo.world import Pixels
from gpu_worker.engines import ModelUnavailable

HELD_OUT = 8
MORE_PROMPTS = (
    "three small green triangles on a white background",
    "a large red circle left of a blue square on a yellow background",
    "two white hearts on a red background",
    "a yellow star above a purple ring on black",
)
"""Beside the prompts of one thing, which are the evaluation's first: counts and two things."""
COLUMNS = 4
GAP = 12
TEXT_SIZE = 11
TEXT_WIDTH = 24
"""Letters in a line."""
TEXT_HEIGHT = 44
PAPER, INK = (255, 255, 255), (40, 40, 40)


def main(argv: list[str]) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="contact-sheet", description=__doc__)
    parser.add_argument("--model", type=Path, default=SDXL_DEMO)
    parser.add_argument("--out", type=Path, default=Path("docs/demo-contact-sheet.png"))
    arguments = parser.parse_args(argv)
    from gpu_worker.engines.sdxl import SdxlEngine  # noqa: PLC0415 - brings torch, seconds after the options are checked

    try:
        engine = SdxlEngine.load(str(arguments.model))
    except ModelUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    wanted = [(trial.prompt, trial.seed) for trial in held_out_trials(HELD_OUT)]
    wanted += [(prompt, seed) for seed, prompt in enumerate(MORE_PROMPTS)]
    pictures = [(prompt, draw(engine, prompt, seed, GUIDANCE, STEPS)[0]) for prompt, seed in wanted]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures).save(arguments.out)
    sys.stdout.write(f"{len(pictures)} pictures are in {arguments.out}.\n")
    return 0


def sheet(pictures: list[tuple[str, Pixels]]) -> Image.Image:
    """Lay the pictures out in rows, each with its prompt below."""
    rows = -(-len(pictures) // COLUMNS)
    across, down = PIXELS + GAP, PIXELS + TEXT_HEIGHT + GAP
    paper = Image.new("RGB", (COLUMNS * across + GAP, rows * down + GAP), PAPER)
    pen = ImageDraw.Draw(paper)
    font = ImageFont.load_default(TEXT_SIZE)
    for number, (prompt, pixels) in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * across, GAP + row * down
        paper.paste(Image.fromarray(np.ascontiguousarray(pixels)), (x, y))
        pen.rectangle((x - 1, y - 1, x + PIXELS, y + PIXELS), outline=(200, 200, 200))
        pen.multiline_text((x, y + PIXELS + 3), textwrap.fill(prompt, TEXT_WIDTH), fill=INK, font=font, spacing=1)
    return paper
