"""The catalog: what can be asked for, and what a request or a catalog that is wrong learns."""

from typing import Any

import pytest
from pydantic import ValidationError

from domain.errors import FieldProblem, InvalidInput
from domain.recipes.catalog import Catalog
from domain.recipes.recipe import Kind, Task
from tests.domain.catalogs import SHIPPED, TEN, catalog_of

CATALOG = catalog_of(SHIPPED)
FAST = CATALOG.job_type("sdxl_image_fast")
HIGH = CATALOG.job_type("sdxl_image_high")
STEPS = "must be a whole number from 1 to 100"
WIDTH = "must be a whole number from 64 to 2048, a multiple of 8"
GUIDANCE = "must be a number from 0 to 20"


# What is shipped.


FULL = CATALOG.with_model("sdxl", "sdxl").with_model("wan", "wan-2.1-1.3b")
"""On models without limits of a demonstration."""


@pytest.mark.parametrize("row", TEN, ids=lambda row: row[0])
def test_the_ten_job_types_have_their_presets(row: Any) -> None:
    name, pool, kind, steps, guidance, quantities, expected_s, enhance = row
    entry = FULL.job_type(name)
    assert (FULL.models[entry.model].pool, entry.kind, entry.quantities, entry.expected_s, entry.enhance) == (
        pool, kind, quantities, expected_s, enhance,
    )  # fmt: skip
    assert entry.extension == ("png" if kind is Kind.IMAGE else "mp4")
    values = FULL.complete_params(entry, {}).values
    assert (values["steps"], values["guidance"]) == (steps, guidance)


def test_nothing_else_is_shipped() -> None:
    assert set(CATALOG.job_types) == {row[0] for row in TEN}


@pytest.mark.parametrize("name", ["video_fast", "video_high", "video7b_fast_enhanced", "video7b_high_enhanced"])
def test_83_frames_become_81_and_that_is_recorded(name: str) -> None:
    complete = FULL.complete_params(FULL.job_type(name), {})
    assert (complete.values["frames"], complete.values["solver"], complete.values["shift"]) == (81, "unipc", 5.0)
    assert complete.adjusted == {"frames": 83}


def test_a_demo_model_scales_size_and_length_down() -> None:
    complete = CATALOG.complete_params(CATALOG.job_type("video_fast"), {})
    assert (complete.values["width"], complete.values["height"], complete.values["frames"]) == (96, 96, 17)
    assert complete.adjusted == {}
    assert CATALOG.complete_params(FAST, {}).values["width"] == 128


def test_each_job_type_has_its_own_bucket() -> None:
    buckets = [job_type.bucket for job_type in CATALOG.job_types.values()]
    assert len(set(buckets)) == len(buckets)


# What a request learns.


def _problems(job_type: Any, params: dict[str, Any]) -> tuple[FieldProblem, ...]:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.complete_params(job_type, params)
    assert caught.value.code == "invalid_input"
    return caught.value.problems


def test_an_unknown_job_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.job_type("sdxl_image_slow")
    known = ", ".join(sorted(CATALOG.job_types))
    expected = FieldProblem("job_type", f"unknown job type 'sdxl_image_slow'; allowed: {known}")
    assert caught.value.problems == (expected,)


@pytest.mark.parametrize("quantity", [1, 3, 6])
def test_an_allowed_quantity_is_taken(quantity: int) -> None:
    assert CATALOG.quantity(FAST, quantity) == quantity


def test_the_smallest_quantity_is_taken_when_none_is_asked_for() -> None:
    assert CATALOG.quantity(FAST, None) == 1


@pytest.mark.parametrize("quantity", [2, 0, -1, 7, 10**400, True, 3.0, float("nan"), "3"], ids=lambda v: repr(v)[:9])
def test_any_other_quantity_is_refused_with_the_allowed_ones(quantity: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.quantity(FAST, quantity)
    assert caught.value.problems == (FieldProblem("quantity", "must be one of 1, 3, 6"),)


def test_parameters_come_from_the_request_then_the_job_type_then_the_model() -> None:
    full = FULL.job_type("sdxl_image_fast")
    complete = FULL.complete_params(full, {"steps": 20, "width": 512}).values
    assert complete == {"width": 512, "height": 1024, "steps": 20, "guidance": 6.0, "sampler": "euler"}
    assert CATALOG.complete_params(FAST, {}).values["guidance"] == CATALOG.models[FAST.model].overrides["guidance"]


def test_parameters_take_their_type() -> None:
    complete = CATALOG.complete_params(FAST, {"steps": 20.0, "guidance": 7}).values
    assert (repr(complete["steps"]), repr(complete["guidance"])) == ("20", "7.0")


@pytest.mark.parametrize(("name", "value"), [("steps", 1), ("steps", 100), ("guidance", 0), ("guidance", 20.0)])
def test_bounds_are_inclusive(name: str, value: float) -> None:
    assert CATALOG.complete_params(FAST, {name: value}).values[name] == value


NOT_NUMBERS: list[object] = [
    True,
    False,
    None,
    "15",
    "",
    [],
    {},
    float("nan"),
    float("inf"),
    float("-inf"),
    10**400,
    -(10**400),
]


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 0, 101, 15.5, -1], ids=lambda value: repr(value)[:9])
def test_a_wrong_integer_is_refused_with_what_is_allowed(value: object) -> None:
    assert _problems(FAST, {"steps": value}) == (FieldProblem("params.steps", STEPS),)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -0.1, 20.1], ids=lambda value: repr(value)[:9])
def test_a_wrong_number_is_refused_with_what_is_allowed(value: object) -> None:
    assert _problems(FAST, {"guidance": value}) == (FieldProblem("params.guidance", GUIDANCE),)


@pytest.mark.parametrize("value", [63, 56, 100, 2056, 64.5], ids=repr)
def test_a_size_is_a_multiple(value: object) -> None:
    assert _problems(FAST, {"width": value}) == (FieldProblem("params.width", WIDTH),)


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    expected = FieldProblem("params.stepz", "unknown; allowed: fit, guidance, height, karras, sampler, steps, width")
    assert _problems(FAST, {"stepz": 15}) == (expected,)


def test_every_bad_parameter_is_named_at_once() -> None:
    problems = _problems(FAST, {"steps": 0, "stepz": 1, "guidance": 6.0, "width": 100})
    assert {problem.path for problem in problems} == {"params.steps", "params.stepz", "params.width"}


def test_a_size_is_a_multiple_of_what_the_model_paints() -> None:
    told = "must be a whole number from 64 to 2048, a multiple of 16"
    assert _problems(CATALOG.job_type("image_fast"), {"height": 104}) == (FieldProblem("params.height", told),)


# Parameters that depend on others.


def test_a_parameter_without_its_condition_has_no_value() -> None:
    assert "karras" not in CATALOG.complete_params(FAST, {}).values
    assert CATALOG.complete_params(FAST, {"sampler": "dpm++"}).values["karras"] is False
    assert CATALOG.complete_params(FAST, {"sampler": "dpm++", "karras": True}).values["karras"] is True


@pytest.mark.parametrize("asked", [{"karras": True}, {"karras": False, "sampler": "euler"}], ids=str)
def test_a_value_whose_condition_does_not_hold_is_refused(asked: dict[str, Any]) -> None:
    assert _problems(FAST, asked) == (FieldProblem("params.karras", "only with sampler = dpm++"),)


def test_what_depends_on_a_bad_value_is_not_reported_too() -> None:
    told = FieldProblem("params.sampler", "must be one of euler, dpm++")
    assert _problems(FAST, {"sampler": "ddim", "karras": True}) == (told,)


NESTED = """
[params.rho]
type = "number"
minimum = 1
maximum = 10
default = 7.0
depends_on = { karras = true, sampler = ["dpm++", "euler"] }
[job_types.sdxl_image_fast]
params = ["rho", "karras", "steps", "guidance", "sampler"]
"""


def test_conditions_are_nested_and_parents_stand_first() -> None:
    catalog = catalog_of(SHIPPED, NESTED)
    fast = catalog.job_type("sdxl_image_fast")
    names = list(catalog.params_of(fast))
    assert names.index("sampler") < names.index("karras") < names.index("rho")
    assert "rho" not in catalog.complete_params(fast, {"sampler": "dpm++"}).values
    assert catalog.complete_params(fast, {"sampler": "dpm++", "karras": True}).values["rho"] == 7.0


def test_what_depends_on_a_bad_value_at_any_depth_is_not_reported_too() -> None:
    fast = catalog_of(SHIPPED, NESTED).job_type("sdxl_image_fast")
    with pytest.raises(InvalidInput) as caught:
        catalog_of(SHIPPED, NESTED).complete_params(fast, {"sampler": "ddim", "karras": True, "rho": 3.0})
    assert [problem.path for problem in caught.value.problems] == ["params.sampler"]


def chain(length: int, first: str | None = None) -> Catalog:
    """Switches, each of which means something while the one before it is on; in the opposite order."""
    params: dict[str, Any] = {
        f"p{number}": {"type": "boolean", "default": True, "depends_on": {f"p{number - 1}": True} if number else {}}
        for number in reversed(range(length))
    }
    if first is not None:
        params["p0"]["depends_on"] = {first: True}
    sizes = {name: {"type": "integer", "minimum": 64, "maximum": 512} for name in ("width", "height")}
    model = {"label": "m", "pool": "sdxl", "tasks": ["t2i"], "width": 64, "height": 64}
    job_type = {
        "label": "j", "model": "m", "task": "t2i", "kind": "image", "bucket": "j", "extension": "png",
        "quantities": [1], "expected_s": 1, "params": list(params),
    }  # fmt: skip
    return Catalog.model_validate({"models": {"m": model}, "job_types": {"j": job_type}, "params": params | sizes})


def test_conditions_nest_to_any_depth() -> None:
    catalog = chain(3_000)
    entry = catalog.job_type("j")
    ordered = [name for name in catalog.params_of(entry) if name.startswith("p")]
    assert ordered == [f"p{number}" for number in range(3_000)]
    assert len(catalog.complete_params(entry, {"p2999": True}).values) == 3_002
    assert set(catalog.complete_params(entry, {"p1": False}).values) == {"width", "height", "p0", "p1"}
    with pytest.raises(InvalidInput, match="only with p2998 = true"):
        catalog.complete_params(entry, {"p0": False, "p2999": True})


def test_a_cycle_of_any_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="depends on itself: p2999 → p2998 → "):
        chain(3_000, first="p2999")


# What goes in decides the task.


@pytest.mark.parametrize(
    ("name", "references", "media", "task"),
    [
        ("sdxl_image_fast", [], [], Task.TEXT_TO_IMAGE),
        ("sdxl_image_fast", ["composition"], [], Task.IMAGE_TO_IMAGE),
        ("sdxl_image_fast", ["style", "character"], [], Task.MULTI),
        ("image_fast", [], [], Task.TEXT_TO_IMAGE),
        ("video_fast", [], [], Task.TEXT_TO_VIDEO),
        ("video_fast", [], ["image"], Task.IMAGE_TO_VIDEO),
        ("video_high", [], ["video"], Task.EXTEND),
    ],
)
def test_references_and_media_decide_the_task(name: str, references: list[str], media: list[str], task: Task) -> None:
    full = FULL.with_model("wan", "wan-2.2-5b")
    assert full.task(full.job_type(name), references, media) is task


@pytest.mark.parametrize(
    ("name", "references", "media", "told"),
    [
        ("sdxl_image_fast", ["style"], [], ("references.0.type", "the model sdxl-demo takes composition, not style")),
        ("sdxl_image_fast", ["composition"] * 2, [], ("references", "the model sdxl-demo cannot do multi")),
        ("sdxl_image_fast", ["composition"] * 5, [], ("references", "must be at most 4")),
        ("sdxl_image_fast", [], ["image"], ("media.image", "is not used by a job type that does t2i, i2i")),
        ("video_fast", ["style"], [], ("references", "the model wan-demo takes none")),
        ("video_fast", [], ["audio"], ("media.audio", "is not used by a job type that does t2v, i2v, extend")),
        ("video_fast", [], ["image", "video"], ("media.image", "is not used by a job type that does t2v, i2v, extend")),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_the_reason(
    name: str, references: list[str], media: list[str], told: tuple[str, str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.task(CATALOG.job_type(name), references, media)
    assert [(each.path, each.detail.split("; ")[0]) for each in caught.value.problems].count(told) == 1


def test_a_model_that_takes_no_picture_says_what_it_does() -> None:
    with pytest.raises(InvalidInput) as caught:
        FULL.task(FULL.job_type("video_fast"), [], ["image"])
    told = FieldProblem("media.image", "the model wan-2.1-1.3b cannot do i2v; it does t2v")
    assert caught.value.problems[0] == told


# Another model.


def test_a_pool_can_be_put_on_another_model() -> None:
    moved = CATALOG.with_model("sdxl", "sdxl")
    assert {moved.job_type(name).model for name in ("sdxl_image_fast", "sdxl_image_high")} == {"sdxl"}
    assert moved.complete_params(moved.job_type("sdxl_image_fast"), {}).values["width"] == 1024
    assert CATALOG.job_type("sdxl_image_fast").model == "sdxl-demo"


@pytest.mark.parametrize(("pool", "model"), [("sdxl", "sdxxl"), ("wan", "sdxl")])
def test_a_pool_cannot_be_put_on_a_model_that_it_does_not_have(pool: str, model: str) -> None:
    with pytest.raises(ValueError, match=f"no model '{model}' for the pool '{pool}'"):
        CATALOG.with_model(pool, model)


def test_a_job_type_stays_where_its_task_is_possible() -> None:
    painter = SHIPPED.replace('tasks = ["t2i", "i2i", "multi"]', 'tasks = ["i2i"]', 1)
    moved = catalog_of(painter).with_model("sdxl", "sdxl")
    assert moved.job_type("sdxl_image_fast").model == "sdxl-demo"


@pytest.mark.parametrize(
    ("asked", "factor"),
    [
        ({}, 1),
        ({"steps": 30}, 2),
        ({"steps": 5}, 1 / 3),
        ({"width": 64, "height": 256}, 1),
        ({"width": 64}, 1 / 2),
        ({"guidance": 1.0}, 1),
    ],
)
def test_expected_seconds_are_in_proportion_to_steps_and_size(asked: dict[str, Any], factor: float) -> None:
    entry = CATALOG.job_type("sdxl_image_fast")
    values = CATALOG.complete_params(entry, asked).values
    assert CATALOG.expected_s(entry, values, 3) == pytest.approx(12 * factor)
