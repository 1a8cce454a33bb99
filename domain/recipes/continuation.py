"""Extending a video keeps its size and frame rate: other values are refused, and the video's own are recorded."""

from collections.abc import Mapping
from typing import Any, Final

from domain.errors import FieldProblem, InvalidInput
from domain.recipes.catalog import CompleteParams
from domain.recipes.params import Param
from domain.recipes.recipe import InputFile, ParamValue

OLD_FRAMES_MAX: Final = 1000
"""Maximum number of frames of a video to extend: a minute at 16 frames/s, 1.2 GB of pixels at 832 x 480."""

FPS_ROUNDING: Final = 0.5
"""Largest difference in frames/s that counts as equal: a parameter is a whole number, a video may have 29.97."""


def decided_by(video: InputFile) -> dict[str, ParamValue]:
    """The parameters that the video sets, with their values. Older jobs may not have recorded them all."""
    fps = video.fps
    whole = int(fps) if fps is not None and fps.is_integer() else fps
    known: dict[str, ParamValue | None] = {"width": video.width, "height": video.height, "fps": whole}
    return {name: value for name, value in known.items() if value is not None}


def continued(
    params: CompleteParams, asked: Mapping[str, Any], video: InputFile, known: Mapping[str, Param]
) -> CompleteParams:
    """The parameters of a job that extends a video; size and frame rate are the video's.

    `asked` are those of the submission, `known` those of the job type. Raises `InvalidInput` if the model cannot make
    the video's size, if the video is too long, or if the submission asks for another size or frame rate.
    """
    problem = problem_with(video, known)
    problems = [] if problem is None else [FieldProblem("media.video", problem)]
    values, adjusted = dict(params.values), dict(params.adjusted)
    for name, fact in decided_by(video).items():
        if name in known:
            values[name] = fact
        if name not in asked:
            continue
        if name not in known:
            problems.append(FieldProblem(f"params.{name}", f"unknown; allowed: {', '.join(sorted(known))}"))
        elif not _mean_the_same(name, asked[name], fact):
            detail = f"the video that goes on has {fact:g}, and so will the result; ask for that, or leave it out"
            problems.append(FieldProblem(f"params.{name}", detail))
        elif asked[name] != fact:
            adjusted[name] = asked[name]
    if problems:
        raise InvalidInput(problems)
    return CompleteParams(values, adjusted)


def problem_with(video: InputFile, known: Mapping[str, Param]) -> str | None:
    """Why a model with these parameters cannot extend the video; None if it can."""
    sides = {"width": video.width, "height": video.height}
    wrong = [
        f"its {name} must be a multiple of {known[name].multiple_of}"
        for name, pixels in sides.items()
        if pixels is not None and pixels % (known[name].multiple_of or 1)
    ]
    if wrong:
        size = f"{video.width} x {video.height}"
        return f"is {size}, and the model cannot go on with that: {' and '.join(wrong)}; scale or crop it first"
    if video.frames is not None and video.frames > OLD_FRAMES_MAX:
        return f"has {video.frames} frames; {OLD_FRAMES_MAX} are the most; cut it first"
    return None


def _mean_the_same(name: str, asked: object, fact: ParamValue) -> bool:
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not isinstance(fact, int | float):
        return False
    return abs(asked - fact) < FPS_ROUNDING if name == "fps" else asked == fact
