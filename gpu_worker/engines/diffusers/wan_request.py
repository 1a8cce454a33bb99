"""Check a request for a Wan model before the first step, and convert it to a pipeline's arguments."""
# mypy: allow-untyped-calls

from dataclasses import dataclass
from typing import Any

import numpy as np
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from numpy.typing import NDArray
from PIL import Image

from domain.recipes.continuation import OLD_FRAMES_MAX
from domain.recipes.recipe import Kind, Task
from domain.warning_codes import WarningCode
from gpu_worker.engines import InvalidRequest, RenderRequest, Warned
from gpu_worker.engines.diffusers.fitting import fit_of, fitted
from services.files.decoders.pixels import read_sound, read_video
from services.files.media.kinds import UnreadableMedia
from services.files.media.sounds import Sound

FPS, SHIFT, SOLVER = 16.0, 5.0, "unipc"
"""Defaults if a recipe has none: Wan's own frame rate, and the shift and solver of the catalog's job types."""

SOLVERS = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}

PIPELINE_STEP = 16
"""Wan's pipelines refuse a width or height that is not a multiple of this, whatever the model supports."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model supports. Sizes are multiples of their steps in pixels, frames one more than a multiple."""

    words: bool
    picture: bool
    steps_max: int
    height_step: int
    width_step: int
    frames_step: int


@dataclass(frozen=True, slots=True)
class WanPlan:
    """What all outputs of a request have in common. `start` is the first frame, `before` the frames to extend.

    `sound` is that of these frames, `losses` warns of parts of the old video that are not kept.
    """

    width: int
    height: int
    frames: int
    fps: float
    shift: float
    solver: str
    timesteps: int
    start: Image.Image | None = None
    before: NDArray[np.uint8] | None = None
    sound: Sound | None = None
    losses: tuple[Warned, ...] = ()

    def scheduler(self) -> Any:
        """A new scheduler for each call, because it counts its steps."""
        return SOLVERS[self.solver](
            num_train_timesteps=self.timesteps,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=self.shift,
        )

    def joined(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The whole video. The first new frame repeats the last old one and is left out."""
        return frames if self.before is None else np.concatenate([self.before, frames[1:]])


def plan_of(request: RenderRequest, abilities: Abilities) -> WanPlan:
    """The plan for a request. Raises InvalidRequest.

    An image is fitted to the shape of the video. An extended video keeps its size, frame rate and sound.
    """
    refuse_impossible(request, abilities)
    width, height, fps = request.width, request.height, number(request, "fps", FPS)
    start, before, sound = None, None, None
    losses: tuple[Warned, ...] = ()
    if request.task is Task.IMAGE_TO_VIDEO and request.image is not None:
        start = fitted(request.image, width, height, fit_of(request.params))
    elif request.task is Task.EXTEND and request.video is not None:
        before, fps = old_frames(request.video)
        sound, losses = old_sound(request.video)
        start = Image.fromarray(before[-1])
        width, height = start.size
    refuse_size(width, height, abilities)
    solver = str(request.params.get("solver", SOLVER))
    if solver not in SOLVERS:
        raise InvalidRequest(f"The solver has to be one of {', '.join(SOLVERS)}, but is {solver!r}.")
    shift = number(request, "shift", SHIFT)
    if not (shift > 0 and fps > 0):
        raise InvalidRequest(f"Shift and frames a second have to be above 0, but are {shift:g} and {fps:g}.")
    frames = frames_of(request, abilities)
    return WanPlan(width, height, frames, fps, shift, solver, abilities.steps_max, start, before, sound, losses)


def refuse_impossible(request: RenderRequest, abilities: Abilities) -> None:
    """Raise InvalidRequest for a task, an input or steps that the model does not support."""
    match request.task:
        case Task.TEXT_TO_VIDEO | Task.TEXT_TO_IMAGE:
            possible, missing = abilities.words, None
            why = "it always starts from a picture; ask for i2v with one"
        case Task.IMAGE_TO_VIDEO:
            possible, missing = abilities.picture, "a picture to start from" if request.image is None else None
            why = "it makes videos from words alone; choose a model that takes a picture"
        case Task.EXTEND:
            possible, missing = abilities.picture, "a video to go on from" if request.video is None else None
            why = "it cannot start from a last frame; choose a model that takes a picture"
        case _:
            possible, missing, why = False, None, "Wan models know t2v, t2i, i2v and extend"
    if not possible:
        raise InvalidRequest(f"This model cannot do {request.task}: {why}.")
    if missing:
        raise InvalidRequest(f"The task {request.task} needs {missing}, but none was given.")
    if (request.kind is Kind.IMAGE) != (request.task is Task.TEXT_TO_IMAGE) and request.task is not Task.TEXT_TO_VIDEO:
        raise InvalidRequest(f"The task {request.task} makes no {request.kind}.")
    if request.references:
        raise InvalidRequest("Wan models take no references; give a picture to start from, or choose another model.")
    if not 1 <= request.steps <= abilities.steps_max:
        allowed = f"from 1 to {abilities.steps_max} with this model"
        raise InvalidRequest(f"The steps have to be {allowed}, but are {request.steps}.")


def refuse_size(width: int, height: int, abilities: Abilities) -> None:
    """Raise InvalidRequest for a size that the pipeline refuses or would silently change."""
    width_step, height_step = (
        int(np.lcm(step, PIPELINE_STEP)) for step in (abilities.width_step, abilities.height_step)
    )
    if width < width_step or height < height_step or width % width_step or height % height_step:
        raise InvalidRequest(
            f"With this model the width has to be a multiple of {width_step} pixels and the height of {height_step}, "
            f"but they are {width} x {height}."
        )


def frames_of(request: RenderRequest, abilities: Abilities) -> int:
    """The number of frames: one for an image, else as requested. Raises InvalidRequest."""
    if request.kind is Kind.IMAGE:
        return 1
    step = abilities.frames_step
    least = step + 1 if request.task is Task.EXTEND else 1
    frames = number(request, "frames", None)
    if frames < least or (frames - 1) % step:
        raise InvalidRequest(f"The frames have to be {step}k + 1 from {least} on, as {20 * step + 1}; not {frames:g}.")
    return int(frames)


def number(request: RenderRequest, name: str, default: float | None) -> float:
    """A parameter. Raises InvalidRequest if it is not a finite number, or missing without a default."""
    value = request.params.get(name, default)
    try:
        found = float("nan" if value is None else value)
    except ValueError:
        found = float("nan")
    if not np.isfinite(found):
        raise InvalidRequest(f"The recipe's {name} have to be a number, but are {value!r}.")
    return found


def old_frames(video: bytes) -> tuple[NDArray[np.uint8], float]:
    """The frames and frame rate of a video to extend. Raises InvalidRequest."""
    try:
        return read_video(video, frames_max=OLD_FRAMES_MAX)
    except UnreadableMedia as error:
        raise InvalidRequest(f"The video that should go on cannot be used: {error}") from None


def old_sound(video: bytes) -> tuple[Sound | None, tuple[Warned, ...]]:
    """The first sound of a video to extend, and warnings about the others, or about one that is lost."""
    try:
        sound, others = read_sound(video)
    except UnreadableMedia as error:
        return None, (Warned(WarningCode.SOUND_LOST, f"The sound of the video that goes on is lost. {error}"),)
    if not others:
        return sound, ()
    detail = f"Of the {others + 1} sounds of the video that goes on the first one alone is kept."
    return sound, (Warned(WarningCode.SOUND_TRACKS_LOST, detail),)
