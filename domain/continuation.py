"""A video that goes on keeps its size and its rate: another wish is refused, and the video's own are recorded."""

from collections.abc import Mapping
from typing import Any, Final

from domain.catalog import CompleteParams
from domain.errors import FieldProblem, InvalidInput
from domain.params import Param
from domain.recipe import InputFile, ParamValue

OF_THE_VIDEO: Final = ("width", "height", "fps")
"""Parameters that a video that goes on decides."""

OLD_FRAMES_MAX: Final = 1000
"""Of a video that goes on: a minute at 16 frames a second, 1.2 GB of pixels at 832 x 480."""

FPS_ROUNDING: Final = 0.5
"""A parameter holds whole frames a second, a video 29.97: so far apart they mean the same."""


def continued(
    params: CompleteParams, asked: Mapping[str, Any], video: InputFile, known: Mapping[str, Param]
) -> CompleteParams:
    """The parameters of a job that goes on from a video: its size and rate are the video's.

    `asked` are those of the submission, `known` those that the job type takes. Raises `InvalidInput` for a video of a
    size that the model does not make, for one that is too long, and for a size or rate that is not the video's.
    """
    problem = problem_with(video, known)
    problems = [] if problem is None else [FieldProblem("media.video", problem)]
    facts = facts_of(video)
    values, adjusted = dict(params.values), dict(params.adjusted)
    for name in OF_THE_VIDEO:
        fact = facts[name]
        if fact is None or name not in known:
            continue
        rounding = FPS_ROUNDING if name == "fps" else 0
        if name in asked and abs(asked[name] - fact) > rounding:
            detail = f"the video that goes on has {fact:g}, and so will the result; ask for that, or leave it out"
            problems.append(FieldProblem(f"params.{name}", detail))
        elif name in asked and asked[name] != fact:
            adjusted[name] = asked[name]
        values[name] = fact
    if problems:
        raise InvalidInput(problems)
    return CompleteParams(values, adjusted)


def facts_of(video: InputFile) -> dict[str, ParamValue | None]:
    """What the video says of the parameters that it decides; None where it was not kept."""
    fps = video.fps
    return {
        "width": video.width,
        "height": video.height,
        "fps": int(fps) if fps is not None and fps.is_integer() else fps,
    }


def problem_with(video: InputFile, known: Mapping[str, Param]) -> str | None:
    """Why a model whose job type takes these parameters cannot go on from this video; None where it can."""
    sides = {"width": video.width, "height": video.height}
    wrong = {
        name: problem
        for name, pixels in sides.items()
        if pixels is not None and (problem := known[name].problem_with(pixels)) is not None
    }
    if wrong:
        rules = " and ".join(f"its {name} {problem}" for name, problem in wrong.items())
        size = f"{video.width} x {video.height}"
        return f"is {size}, and the model cannot go on with that: {rules}; scale or crop it first"
    if video.frames is not None and video.frames > OLD_FRAMES_MAX:
        return f"has {video.frames} frames; {OLD_FRAMES_MAX} are the most; cut it first"
    return None
