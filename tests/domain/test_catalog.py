"""The catalog: what can be asked for, and what a request or a catalog that is wrong is told."""

from importlib.resources import files
from typing import Any

import pytest

from domain.catalog import Catalog, CatalogError, Param
from domain.errors import FieldProblem, InvalidInput
from domain.recipe import Kind, Task

SHIPPED = files("domain").joinpath("catalog.toml").read_text()
CATALOG = Catalog.from_toml(SHIPPED)
FAST = CATALOG.job_type("sdxl_image_fast")
HIGH = CATALOG.job_type("sdxl_image_high")
STEPS = "must be a whole number from 1 to 100"
WIDTH = "must be a whole number from 64 to 2048, a multiple of 8"
GUIDANCE = "must be a number from 0 to 20"


# What is shipped.


@pytest.mark.parametrize(("job_type", "steps", "guidance"), [(FAST, 15, 6.0), (HIGH, 25, 7.5)], ids=["fast", "high"])
def test_the_shipped_job_types_have_their_presets(job_type: Any, steps: int, guidance: float) -> None:
    assert job_type.quantities == (1, 3, 6)
    assert (job_type.task, job_type.kind, job_type.extension) == (Task.TEXT_TO_IMAGE, Kind.IMAGE, "png")
    assert CATALOG.complete_params(job_type, {})["steps"] == steps
    assert CATALOG.complete_params(job_type, {})["guidance"] == guidance


def test_each_job_type_has_its_own_bucket() -> None:
    buckets = [job_type.bucket for job_type in CATALOG.job_types.values()]
    assert len(set(buckets)) == len(buckets)


# What a request is told.


def _problems(job_type: Any, params: dict[str, Any]) -> tuple[FieldProblem, ...]:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.complete_params(job_type, params)
    assert caught.value.code == "invalid_input"
    return caught.value.problems


def test_an_unknown_job_type_is_told_which_there_are() -> None:
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
def test_any_other_quantity_is_told_which_are_allowed(quantity: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        CATALOG.quantity(FAST, quantity)
    assert caught.value.problems == (FieldProblem("quantity", "must be one of 1, 3, 6"),)


def test_parameters_come_from_the_request_then_the_job_type_then_the_model() -> None:
    complete = CATALOG.complete_params(FAST, {"steps": 20, "width": 512})
    assert complete == {"width": 512, "height": 256, "steps": 20, "guidance": 6.0}


def test_parameters_take_their_type() -> None:
    complete = CATALOG.complete_params(FAST, {"steps": 20.0, "guidance": 7})
    assert (repr(complete["steps"]), repr(complete["guidance"])) == ("20", "7.0")


@pytest.mark.parametrize(("name", "value"), [("steps", 1), ("steps", 100), ("guidance", 0), ("guidance", 20.0)])
def test_bounds_are_inclusive(name: str, value: float) -> None:
    assert CATALOG.complete_params(FAST, {name: value})[name] == value


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
def test_a_whole_number_that_does_not_hold_is_told_what_is_allowed(value: object) -> None:
    assert _problems(FAST, {"steps": value}) == (FieldProblem("params.steps", STEPS),)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -0.1, 20.1], ids=lambda value: repr(value)[:9])
def test_a_number_that_does_not_hold_is_told_what_is_allowed(value: object) -> None:
    assert _problems(FAST, {"guidance": value}) == (FieldProblem("params.guidance", GUIDANCE),)


@pytest.mark.parametrize("value", [63, 56, 100, 2056, 64.5], ids=repr)
def test_a_size_is_a_multiple(value: object) -> None:
    assert _problems(FAST, {"width": value}) == (FieldProblem("params.width", WIDTH),)


def test_an_unknown_parameter_is_told_which_there_are() -> None:
    expected = FieldProblem("params.stepz", "unknown; allowed: guidance, height, steps, width")
    assert _problems(FAST, {"stepz": 15}) == (expected,)


def test_every_bad_parameter_is_named_at_once() -> None:
    problems = _problems(FAST, {"steps": 0, "stepz": 1, "guidance": 6.0, "width": 100})
    assert [problem.path for problem in problems] == ["params.steps", "params.stepz", "params.width"]


# Another model.


def test_a_pool_can_be_put_on_another_model() -> None:
    moved = CATALOG.with_model("sdxl", "sdxl")
    assert {moved.job_type(name).model for name in ("sdxl_image_fast", "sdxl_image_high")} == {"sdxl"}
    assert moved.complete_params(moved.job_type("sdxl_image_fast"), {})["width"] == 1024
    assert CATALOG.job_type("sdxl_image_fast").model == "sdxl-demo"


@pytest.mark.parametrize(("pool", "model"), [("sdxl", "sdxxl"), ("wan", "sdxl")])
def test_a_pool_cannot_be_put_on_a_model_that_it_does_not_have(pool: str, model: str) -> None:
    with pytest.raises(CatalogError, match=f"no model '{model}' for the pool '{pool}'"):
        CATALOG.with_model(pool, model)


def test_a_job_type_stays_where_its_task_is_possible() -> None:
    painter = SHIPPED.replace('tasks = ["t2i"]', 'tasks = ["i2i"]', 1)
    moved = Catalog.from_toml(painter).with_model("sdxl", "sdxl")
    assert moved.job_type("sdxl_image_fast").model == "sdxl-demo"


# What a catalog that is wrong is told.


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("width = 1024", "width = ", "is not TOML: Invalid value (at line 7, column 9)"),
        ("[models.sdxl]", "[models.sdxl", "is not TOML: "),
        ("[models.sdxl]", "[models.sdxl-demo]", "is not TOML: Cannot declare"),
        ("width = 1024", "widht = 1024", "is wrong at models.sdxl.width: Field required"),
        ("width = 1024", "width = 1024\nwidht = 1", "is wrong at models.sdxl.widht: Extra inputs are not permitted"),
        ("width = 1024", 'width = "1024"', "is wrong at models.sdxl.width: Input should be a valid integer"),
        ("width = 1024", "width = true", "is wrong at models.sdxl.width: Input should be a valid integer"),
        ("width = 1024", "width = 1024.0", "is wrong at models.sdxl.width: Input should be a valid integer"),
        ("width = 1024", "width = nan", "is wrong at models.sdxl.width: "),
        ("width = 1024", "width = 32", "is wrong at models.sdxl.width: Input should be greater than or equal to 64"),
        ("width = 1024", "width = 100", f"is wrong: models.sdxl.width {WIDTH}"),
        ("height = 256", "height = 260", "is wrong: models.sdxl-demo.height must be a whole number"),
        ("[models.sdxl]", '[models."SD XL"]', "is wrong at models.SD XL.[key]: "),
        ('tasks = ["t2i"]', 'tasks = ["paint"]', "is wrong at models.sdxl.tasks.0: Input should be 't2i'"),
        ('tasks = ["t2i"]', "tasks = []", "is wrong at models.sdxl.tasks: "),
        ('model = "sdxl-demo"', 'model = "sd3"', "is wrong: job_types.sdxl_image_fast.model names 'sd3', which is not"),
        ('task = "t2i"', 'task = "i2v"', "is wrong: job_types.sdxl_image_fast.task is i2v, which 'sdxl-demo' cannot"),
        ('kind = "image"', 'kind = "sound"', "is wrong at job_types.sdxl_image_fast.kind: "),
        ('extension = "png"', 'extension = "exe"', "is wrong at job_types.sdxl_image_fast.extension: "),
        ('bucket = "sdxl_image_fast"', 'bucket = "../etc"', "is wrong at job_types.sdxl_image_fast.bucket: "),
        ("quantities = [1, 3, 6]", "quantities = []", "is wrong at job_types.sdxl_image_fast.quantities: "),
        ("quantities = [1, 3, 6]", "quantities = [1, 0]", "is wrong at job_types.sdxl_image_fast.quantities.1: "),
        ("quantities = [1, 3, 6]", "quantities = [true]", "is wrong at job_types.sdxl_image_fast.quantities.0: "),
        ("quantities = [1, 3, 6]", 'quantities = ["3"]', "is wrong at job_types.sdxl_image_fast.quantities.0: "),
        ("expected_s = 4", "expected_s = 0", "is wrong at job_types.sdxl_image_fast.expected_s: "),
        ("expected_s = 4", "expected_s = nan", "is wrong at job_types.sdxl_image_fast.expected_s: "),
        ("expected_s = 4", "expected_s = inf", "is wrong at job_types.sdxl_image_fast.expected_s: "),
        ("expected_s = 4", "expected_s = true", "is wrong at job_types.sdxl_image_fast.expected_s: "),
        ("steps = 15", "stepz = 15", "is wrong: job_types.sdxl_image_fast.defaults.stepz is not in params"),
        ("steps = 15", "steps = 101", f"is wrong: job_types.sdxl_image_fast.defaults.steps {STEPS}"),
        ("steps = 15", "steps = 15.5", f"is wrong: job_types.sdxl_image_fast.defaults.steps {STEPS}"),
        ("steps = 15", "steps = nan", f"is wrong: job_types.sdxl_image_fast.defaults.steps {STEPS}"),
        ("steps = 15", "steps = true", f"is wrong: job_types.sdxl_image_fast.defaults.steps {STEPS}"),
        ("steps = 15", 'steps = "15"', f"is wrong: job_types.sdxl_image_fast.defaults.steps {STEPS}"),
        ("guidance = 6.0", "guidance = nan", f"is wrong: job_types.sdxl_image_fast.defaults.guidance {GUIDANCE}"),
        ("[params.width]", "[params.breadth]", "is wrong: params.width is missing"),
        ('type = "integer"', 'type = "text"', "is wrong at params.steps.type: Input should be 'integer' or 'number'"),
        ("minimum = 1\n", "minimum = nan\n", "is wrong at params.steps.minimum: Input should be a finite number"),
        ("maximum = 100\n", "maximum = inf\n", "is wrong at params.steps.maximum: Input should be a finite number"),
        ("minimum = 1\n", "minimum = 200\n", "is wrong: params.steps.minimum is above its maximum"),
        ("minimum = 1\n", 'minimum = "1"\n', "is wrong at params.steps.minimum: Input should be a valid number"),
        ("multiple_of = 8", "multiple_of = 0", "is wrong at params.width.multiple_of: "),
        ("multiple_of = 8", "multiple_of = 8.0", "is wrong at params.width.multiple_of: "),
    ],
    ids=lambda text: text[:32].strip(),
)
def test_a_catalog_that_is_wrong_names_the_entry(right: str, wrong: str, told: str) -> None:
    assert right in SHIPPED
    with pytest.raises(CatalogError) as caught:
        Catalog.from_toml(SHIPPED.replace(right, wrong, 1))
    assert str(caught.value).startswith(f"The catalog {told}")


@pytest.mark.parametrize("missing", ["models", "job_types", "params"])
def test_a_catalog_without_a_part_names_it(missing: str) -> None:
    present = "\n".join(f"[{part}]" for part in ("models", "job_types", "params") if part != missing)
    with pytest.raises(CatalogError, match=f"The catalog is wrong at {missing}: Field required"):
        Catalog.from_toml(present)


def test_defaults_take_the_type_of_their_parameter() -> None:
    catalog = Catalog.from_toml(SHIPPED.replace("steps = 15", "steps = 15.0", 1))
    assert repr(catalog.complete_params(catalog.job_type("sdxl_image_fast"), {})["steps"]) == "15"


def test_a_parameter_says_what_is_allowed() -> None:
    ratio = Param(type="number", minimum=0.5, maximum=2, multiple_of=None, unit="ratio")
    assert ratio.problem_with(1.25) is None
    assert ratio.problem_with(3) == "must be a number from 0.5 to 2"
