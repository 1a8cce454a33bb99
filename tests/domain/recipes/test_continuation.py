"""A video that goes on: what it decides, what is refused, and that no wish is recorded as a fact."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.recipes.catalog import CompleteParams
from domain.recipes.continuation import OLD_FRAMES_MAX, continued, decided_by
from domain.recipes.recipe import InputFile
from tests.domain.catalogs import SHIPPED, catalog_of

CATALOG = catalog_of(SHIPPED)
VIDEO = CATALOG.job_type("video_fast")
KNOWN = CATALOG.params_of(VIDEO)


def a_video(
    width: int | None = 96, height: int | None = 96, fps: float | None = 8.0, frames: int | None = 8
) -> InputFile:
    return InputFile(
        kind="video",
        media_type="video/mp4",
        sha256="ab" * 32,
        path="x",
        width=width,
        height=height,
        fps=fps,
        frames=frames,
    )


def submitted(video: InputFile, **asked: Any) -> CompleteParams:
    others = {name: value for name, value in asked.items() if name not in decided_by(video)}
    return continued(CATALOG.complete_params(VIDEO, others), asked, video, KNOWN)


def refused(video: InputFile, **asked: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        submitted(video, **asked)
    return {problem.path: problem.detail for problem in caught.value.problems}


def test_the_size_and_the_rate_are_those_of_the_video() -> None:
    made = submitted(a_video(192, 64, 30.0))
    assert {name: made.values[name] for name in ("width", "height", "fps")} == {"width": 192, "height": 64, "fps": 30}
    assert (type(made.values["fps"]), made.adjusted) == (int, {})


def test_another_size_or_rate_is_refused_and_says_what_the_video_has() -> None:
    problems = refused(a_video(), width=192, height=64, fps=30)
    assert set(problems) == {"params.width", "params.height", "params.fps"}
    assert "has 8," in problems["params.fps"]
    assert submitted(a_video(), width=96, height=96, fps=8).values["fps"] == 8


def test_a_rate_that_no_parameter_can_hold_is_recorded_as_it_is() -> None:
    made = submitted(a_video(fps=30000 / 1001), fps=30)
    assert (made.values["fps"], made.adjusted) == (30000 / 1001, {"fps": 30})
    assert set(refused(a_video(fps=30000 / 1001), fps=29 - 1)) == {"params.fps"}
    assert submitted(a_video(fps=120.0)).values["fps"] == 120
    assert submitted(a_video(fps=30000 / 1001), fps=30000 / 1001).adjusted == {}, "as reuse gives it"


@pytest.mark.parametrize("wrong", ["96", True, None, [96], float("nan")])
def test_what_is_no_number_is_refused(wrong: object) -> None:
    assert set(refused(a_video(), width=wrong, fps=wrong)) == {"params.width", "params.fps"}


@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_a_size_is_refused_exactly_where_the_model_cannot_make_it(width: int, height: int) -> None:
    possible = all(side % 16 == 0 for side in (width, height))
    if possible:
        values = submitted(a_video(width, height)).values
        assert (values["width"], values["height"]) == (width, height)
    else:
        assert f"is {width} x {height}" in refused(a_video(width, height))["media.video"]


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (100, 100), (97, 95)])
def test_a_frame_off_the_grid_says_which_side_and_what_is_possible(width: int, height: int) -> None:
    detail = refused(a_video(width, height))["media.video"]
    assert "a multiple of 16" in detail
    assert "its height" in detail
    assert ("its width" in detail) == (width % 16 != 0)


def test_a_video_that_is_too_long_is_refused() -> None:
    assert submitted(a_video(frames=OLD_FRAMES_MAX)).values["frames"] == 17
    assert f"{OLD_FRAMES_MAX + 1} frames" in refused(a_video(frames=OLD_FRAMES_MAX + 1))["media.video"]


def test_a_video_of_which_nothing_was_kept_changes_nothing() -> None:
    assert submitted(a_video(None, None, None, None)) == CATALOG.complete_params(VIDEO, {})
