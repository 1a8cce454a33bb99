"""Reuse: the inputs of a job under the catalog of today. Properties 4 to 7, of the system: api/test_job_inputs.py.

The twelve properties are those of the job-input-reuse design. Where it speaks of a form, a form that is filled from the
answer and submitted is meant; "visible" is what the answer lists.
"""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.recipes.catalog import Catalog
from domain.recipes.inputs import BESIDE_PARAMS, FormInputs
from domain.recipes.params import Param
from domain.recipes.recipe import SEED_MAX, InputFile, ParamValue
from domain.recipes.reuse import inputs_of
from tests.domain.catalogs import SHIPPED, catalog_of
from tests.domain.random_catalogs import Submitted, accepted, catalogs, submitted

Json = dict[str, Any]

JOBS = submitted()
HUNDRED = settings(max_examples=100, deadline=None)


def params_among(inputs: FormInputs) -> dict[str, ParamValue]:
    """The listed parameters with their values, in order."""
    return {each.name: each.value for each in inputs.inputs if each.name not in BESIDE_PARAMS}


def effective(inputs: FormInputs, today: Catalog) -> dict[str, ParamValue]:
    """What every parameter is when the inputs are submitted as they are."""
    return dict(accepted(today, inputs.body()).recipe.params)


def skipped(inputs: FormInputs) -> dict[str, str]:
    """The reasons by name."""
    return {each.name: each.reason for each in inputs.skipped}


def warned(inputs: FormInputs) -> dict[str, str]:
    """The warnings by code."""
    return {each.code: each.detail for each in inputs.warnings}


def known_today(job: Submitted, today: Catalog) -> bool:
    """Whether the job's job type is still there."""
    return job.body["job_type"] in today.job_types


# The twelve properties.


@HUNDRED
@given(job=JOBS)
def test_property_01_complete_input_restoration(job: Submitted) -> None:
    inputs = job.inputs()
    values = {each.name: each.value for each in inputs.inputs}
    recipe = job.command.recipe
    assert params_among(inputs) == recipe.params
    assert (values["seed"], values["quantity"], inputs.prompt) == (recipe.seeds[0], recipe.quantity, recipe.prompt)
    assert values.get("negative_prompt") == job.body.get("negative_prompt")
    assert (inputs.skipped, inputs.warnings) == ((), ())
    assert accepted(job.catalog, inputs.body()).recipe == recipe


@HUNDRED
@given(job=JOBS, data=st.data())
def test_property_02_model_switching(job: Submitted, data: st.DataObject) -> None:
    selected = data.draw(st.sampled_from(sorted(job.catalog.job_types)), label="currently selected")
    form = {"job_type": selected, "prompt": "another one"} | job.inputs().body()
    recipe = accepted(job.catalog, form).recipe
    assert (recipe.job_type, recipe.model, recipe.task) == (
        job.command.recipe.job_type, job.command.recipe.model, job.command.recipe.task,
    )  # fmt: skip
    today = data.draw(catalogs(), label="today")
    inputs = job.inputs(today)
    if known_today(job, today):
        assert inputs.job_type == job.body["job_type"]
        assert inputs.model == today.job_types[inputs.job_type].model
    else:
        assert inputs.job_type is None
        assert "job_type_unknown" in warned(inputs)
    changed = {"model_changed", "model_unknown"} & set(warned(inputs))
    assert bool(changed) == (inputs.model != recipe.model)


@HUNDRED
@given(job=JOBS, data=st.data())
def test_property_03_media_file_loading(job: Submitted, data: st.DataObject) -> None:
    references, media = job.command.recipe.references, job.command.recipe.media
    places = [f"references.{place}.source" for place in range(len(references))] + [f"media.{name}" for name in media]
    gone = data.draw(st.sets(st.sampled_from(places)) if places else st.just(set()), label="gone")
    inputs = inputs_of(job.stored(), job.catalog, dict.fromkeys(gone, "it is gone"))
    left = [each for place, each in enumerate(references) if f"references.{place}.source" not in gone]
    assert list(inputs.references) == left
    assert inputs.media == {name: source for name, source in media.items() if f"media.{name}" not in gone}
    assert skipped(inputs) == {path.removesuffix(".source"): "it is gone" for path in gone}
    assert ("media_gone" in warned(inputs)) == bool(gone)
    assert params_among(inputs) == job.command.recipe.params
    again = accepted(job.catalog, inputs.body()).recipe
    assert (list(again.references), again.media) == (left, inputs.media)


@HUNDRED
@given(job=JOBS)
def test_property_08_conditional_input_storage(job: Submitted) -> None:
    stored = job.stored()["recipe"]["params"]
    for name, param in job.catalog.params_of(job.entry).items():
        assert (name in stored) == param.holds(stored)
        if name in job.body["params"]:
            assert stored[name] == job.body["params"][name]


@HUNDRED
@given(job=JOBS, today=catalogs())
def test_property_09_parent_first_restoration_order(job: Submitted, today: Catalog) -> None:
    for inputs in (job.inputs(), job.inputs(today)):
        names = [each.name for each in inputs.inputs]
        assert len(set(names)) == len(names)
        for place, each in enumerate(inputs.inputs):
            assert not set(each.depends_on).intersection(names[place:])


@HUNDRED
@given(job=JOBS, today=catalogs())
def test_property_10_conditional_visibility(job: Submitted, today: Catalog) -> None:
    assert set(params_among(job.inputs())) == {
        name for name, param in job.catalog.params_of(job.entry).items() if param.holds(job.command.recipe.params)
    }
    if known_today(job, today):
        inputs = job.inputs(today)
        values = effective(inputs, today)
        assert set(params_among(inputs)) == {
            name
            for name, param in today.params_of(today.job_types[job.body["job_type"]]).items()
            if name in job.command.recipe.params and param.holds(values) and is_allowed(param, job, name)
        }


def is_allowed(param: Param, job: Submitted, name: str) -> bool:
    """Whether the value that the job had may still be had."""
    return param.problem_with(job.command.recipe.params[name]) is None


@HUNDRED
@given(job=JOBS, today=catalogs())
def test_property_11_conditional_value_population(job: Submitted, today: Catalog) -> None:
    for each in job.inputs().inputs:
        for parent, wanted in each.depends_on.items():
            assert job.command.recipe.params[parent] in wanted
    inputs = job.inputs(today)
    for name, value in params_among(inputs).items():
        assert value == job.command.recipe.params[name]
    if known_today(job, today):
        values = effective(inputs, today)
        for name, value in params_among(inputs).items():
            assert values[name] == value


@HUNDRED
@given(job=JOBS, today=catalogs(), data=st.data())
def test_property_12_conditional_skip_logic(job: Submitted, today: Catalog, data: st.DataObject) -> None:
    inputs = job.inputs(today)
    listed = params_among(inputs)
    if known_today(job, today):
        values = effective(inputs, today)
        params = today.params_of(today.job_types[job.body["job_type"]])
        for name in set(job.command.recipe.params) - set(listed):
            reason = skipped(inputs)[name]
            if name in params and not params[name].holds(values):
                assert reason == f"only with {params[name].condition_text()}"
            else:
                assert "must be" in reason or "unknown" in reason
    conditional = {name: each for name, each in job.catalog.params_of(job.entry).items() if each.depends_on}
    if conditional:
        name = data.draw(st.sampled_from(sorted(conditional)), label="conditional")
        stored = job.stored()
        stored["recipe"]["params"].setdefault(name, job.catalog.params[name].default)
        parent, wanted = next(iter(conditional[name].conditions.items()))
        other = other_than(wanted, job.catalog.params[parent])
        if other is not None:
            stored["recipe"]["params"][parent] = other
            assert name not in params_among(inputs_of(stored, job.catalog, {}))


def other_than(wanted: tuple[ParamValue, ...], param: Param) -> ParamValue | None:
    """An allowed value under which a condition does not hold."""
    values: list[ParamValue] = [True, False, 1, 2, 3, 4, 1.5, *param.choices]
    return next((each for each in values if each not in wanted and param.problem_with(each) is None), None)


# Whatever becomes of the catalog and of what was stored.


@HUNDRED
@given(job=JOBS, today=catalogs())
def test_what_is_given_is_accepted_as_it_is(job: Submitted, today: Catalog) -> None:
    inputs = job.inputs(today)
    if inputs.job_type is None and today.job_type_with(inputs.model or "", inputs.task or "") is None:
        with pytest.raises(InvalidInput, match=r"job_type|model"):
            accepted(today, inputs.body())
        assert set(params_among(inputs)) | set(skipped(inputs)) >= set(job.command.recipe.params)
    else:
        recipe = accepted(today, inputs.body()).recipe
        assert (recipe.model, recipe.task, recipe.prompt) == (inputs.model, inputs.task, job.command.recipe.prompt)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, stored: Json) -> Json:
    """The same with junk in some places, and some fields lost."""
    stored = deepcopy(stored)
    recipe = stored["recipe"]
    places = [(stored, "recipe"), *((recipe, name) for name in recipe)]
    places += [(recipe["params"], name) for name in recipe["params"]]
    places += [(recipe["references"], place) for place in range(len(recipe["references"]))]
    places += [(recipe["media"], name) for name in recipe["media"]]
    for place in draw(st.sets(st.integers(0, len(places) - 1), min_size=1, max_size=3)):
        holder, name = places[place]
        if isinstance(holder, dict) and draw(st.booleans()):
            holder.pop(name, None)
        else:
            holder[name] = draw(JUNK)
    return stored


@HUNDRED
@given(job=JOBS, data=st.data())
def test_of_a_damaged_recipe_whatever_can_be_read_is_given(job: Submitted, data: st.DataObject) -> None:
    stored = data.draw(damaged(job.stored()))
    inputs = inputs_of(stored, job.catalog, {})
    if not isinstance(stored.get("recipe"), dict):
        assert "options_invalid" in warned(inputs)
        return
    recipe = stored["recipe"]
    kept = job.command.recipe
    if recipe.get("prompt") == kept.prompt:
        assert inputs.prompt == kept.prompt
    if recipe.get("job_type") == kept.job_type:
        assert inputs.job_type == kept.job_type
        if inputs.prompt is not None:
            accepted(job.catalog, inputs.body())
        untouched = isinstance(recipe.get("params"), dict) and recipe["params"] == dict(kept.params)
        if untouched:
            assert params_among(inputs) == kept.params


@given(request=JUNK)
def test_junk_is_no_recipe(request: Any) -> None:
    for stored in ({"recipe": request}, request if isinstance(request, dict) else {}):
        inputs = inputs_of(stored, catalog_of(SHIPPED), {})
        assert "options_invalid" in warned(inputs)
        assert inputs.prompt is None


# Sentences.


CATALOG = catalog_of(SHIPPED)
BODY = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse in fog", "quantity": 3, "seed": 42}
REFERENCE = {"type": "composition", "source": "media:00000000-0000-0000-0000-000000000001", "strength": 0.5}


def job_of(**changes: Any) -> Submitted:
    """A job under the shipped catalog."""
    body = BODY | changes
    return Submitted(CATALOG, body, accepted(CATALOG, body))


def with_recipe(job: Submitted, **changes: Any) -> Json:
    """What was stored, with these parts of the recipe as they are not any more."""
    stored = job.stored()
    return stored | {"recipe": stored["recipe"] | changes}


def test_the_prompt_is_the_one_that_was_asked_for() -> None:
    inputs = job_of(job_type="image7b_fast_enhanced", quantity=1).inputs()
    assert inputs.prompt == "a lighthouse in fog"


@pytest.mark.parametrize(
    ("negative", "by", "given"),
    [("fog", "owner", "fog"), ("", "owner", ""), (None, "rule", None), ("fog", None, "fog"), (None, None, None)],
)
def test_a_negative_prompt_is_given_when_it_is_the_owners(negative: str | None, by: str | None, given: object) -> None:
    job = job_of() if negative is None else job_of(negative_prompt=negative)
    stored = job.stored() | {"negative_prompt_by": by}
    assert stored["recipe"]["negative_prompt"] is not None
    values = {each.name: each.value for each in inputs_of(stored, CATALOG, {}).inputs}
    assert values.get("negative_prompt") == given


def test_a_value_out_of_todays_range_is_skipped_with_what_is_allowed() -> None:
    today = catalog_of(SHIPPED, "params.steps.maximum = 60\n")
    inputs = job_of(params={"steps": 80}).inputs(today)
    assert skipped(inputs) == {"steps": "was 80; must be a whole number from 1 to 60"}
    assert "steps" not in params_among(inputs)


def test_a_choice_that_is_gone_takes_what_depends_on_it_along() -> None:
    today = catalog_of(
        SHIPPED, 'params.sampler.choices = ["euler", "heun"]\nparams.karras.depends_on = { sampler = "heun" }\n'
    )
    inputs = job_of(params={"sampler": "dpm++", "karras": True}).inputs(today)
    assert skipped(inputs) == {"sampler": "was dpm++; must be one of euler, heun", "karras": "only with sampler = heun"}


def test_a_parameter_that_the_job_type_has_no_more_is_skipped() -> None:
    today = catalog_of(SHIPPED, '[job_types.sdxl_image_fast]\nparams = ["steps", "guidance"]\n')
    inputs = job_of().inputs(today)
    assert skipped(inputs) == {"sampler": "unknown; allowed: guidance, height, steps, width"}


def test_a_number_of_outputs_that_nobody_may_ask_for_is_skipped() -> None:
    stored = with_recipe(job_of(), seeds=[43, 45])
    inputs = inputs_of(stored, CATALOG, {})
    assert skipped(inputs) == {"quantity": "was 2; must be one of 1, 3, 6"}
    assert {each.name: each.value for each in inputs.inputs}["seed"] == 43


def test_seeds_that_do_not_count_up_are_reported() -> None:
    inputs = inputs_of(with_recipe(job_of(), seeds=[42, 44, 46]), CATALOG, {})
    assert warned(inputs) == {"seeds_changed": "The seeds were 42, 44, 46; those of a new job count up from the first."}


def test_a_seed_that_leaves_no_room_is_skipped() -> None:
    stored = with_recipe(job_of(), seeds=[SEED_MAX, SEED_MAX])
    today = catalog_of(SHIPPED, "job_types.sdxl_image_fast.quantities = [3, 6]\n")
    assert set(skipped(inputs_of(stored, today, {}))) == {"quantity", "seed"}
    assert set(skipped(inputs_of(stored, CATALOG, {}))) == {"quantity"}


def test_a_job_type_that_is_gone_says_what_does_the_same() -> None:
    inputs = inputs_of(with_recipe(job_of(), job_type="sdxl_old"), CATALOG, {})
    assert (inputs.job_type, inputs.model, inputs.task) == (None, "sdxl-demo", "t2i")
    told = "The catalog has no job type sdxl_old any more; sdxl_image_fast has its model and does t2i too."
    assert warned(inputs) == {"job_type_unknown": told}
    assert accepted(CATALOG, inputs.body()).recipe == job_of().command.recipe


def test_a_job_type_and_a_model_that_are_gone_leave_the_rest() -> None:
    inputs = inputs_of(with_recipe(job_of(references=[REFERENCE]), job_type="old", model="sd1"), CATALOG, {})
    assert (inputs.job_type, inputs.model, inputs.task) == (None, None, "i2i")
    assert set(warned(inputs)) == {"job_type_unknown", "model_unknown"}
    assert params_among(inputs) == job_of(references=[REFERENCE]).command.recipe.params
    assert [each.model_dump() for each in inputs.references] == [REFERENCE]


def test_a_model_that_is_gone_is_reported_with_the_one_that_runs_instead() -> None:
    inputs = inputs_of(with_recipe(job_of(), model="sd1"), CATALOG, {})
    told = {"model_unknown": "The catalog has no model sd1 any more; sdxl_image_fast runs on sdxl-demo now."}
    assert (inputs.job_type, inputs.model, warned(inputs)) == ("sdxl_image_fast", "sdxl-demo", told)


def test_a_job_type_that_was_put_on_another_model_says_so() -> None:
    inputs = job_of().inputs(CATALOG.with_model("sdxl", "sdxl"))
    assert inputs.model == "sdxl"
    assert set(warned(inputs)) == {"model_changed"}


def test_without_its_picture_a_video_begins_with_the_prompt_alone() -> None:
    job = job_of(job_type="video_fast", quantity=1, media={"image": REFERENCE["source"]})
    inputs = job.inputs(**{"media.image": "it is gone"})
    assert (inputs.task, inputs.media) == ("t2v", {})
    assert set(warned(inputs)) == {"media_gone", "task_changed"}
    assert accepted(CATALOG, inputs.body()).recipe.task == "t2v"


def test_references_that_the_model_takes_no_more_are_skipped() -> None:
    today = catalog_of(SHIPPED, 'models.sdxl-demo.references = ["style"]\n')
    inputs = job_of(references=[REFERENCE]).inputs(today)
    assert skipped(inputs) == {"references.0": "the model sdxl-demo takes style, not composition"}
    assert inputs.task == "t2i"


def test_what_cannot_be_read_is_named_and_the_rest_given() -> None:
    params = {"steps": [15], "guidance": 3.0, "width": 128}
    inputs = inputs_of(with_recipe(job_of(), params=params, seeds="42", references=[7], media={"mask": 1}), CATALOG, {})
    told = warned(inputs)["options_invalid"]
    assert told == "What the job stored cannot be read whole; left away: seeds, params.steps, references.0, media.mask."
    assert params_among(inputs) == {"width": 128, "guidance": 3.0}


def test_the_inputs_for_another_job_type_are_what_it_takes() -> None:
    stored = job_of(params={"sampler": "dpm++", "karras": True}).stored()
    inputs = inputs_of(stored, CATALOG, {}, "video_fast")
    assert (inputs.job_type, inputs.model, inputs.task, inputs.warnings) == ("video_fast", "wan-demo", "t2v", ())
    assert set(skipped(inputs)) == {"quantity", "sampler", "karras"}
    assert accepted(CATALOG, inputs.body()).recipe.seeds == (42,)
    with pytest.raises(InvalidInput, match="unknown job type"):
        inputs_of(stored, CATALOG, {}, "video_slow")


def test_a_video_that_goes_on_decides_its_size_whatever_the_job_once_said() -> None:
    source = REFERENCE["source"]
    job = job_of(job_type="video_fast", quantity=1, media={"video": source})
    wish = with_recipe(job, params=job.command.recipe.params | {"width": 192, "height": 64, "fps": 30})
    video = InputFile(
        kind="video", media_type="video/mp4", sha256="ab" * 32, path="x", width=96, height=96, frames=8, fps=8.0
    )
    given = params_among(inputs_of(wish, CATALOG, {}, None, video))
    assert not {"width", "height", "fps"} & set(given)
    assert params_among(inputs_of(job.stored(), CATALOG, {}, None, video)) == job.command.recipe.params
    film = video.model_copy(update={"height": 48, "fps": 30000 / 1001})  # no parameter could ask for that
    facts = with_recipe(job, params=job.command.recipe.params | {"height": 48, "fps": 30000 / 1001})
    inputs = inputs_of(facts, CATALOG, {}, None, film)
    assert (params_among(inputs)["height"], params_among(inputs)["fps"], inputs.skipped) == (48, 30000 / 1001, ())
    odd = video.model_copy(update={"width": 97})
    inputs = inputs_of(wish, CATALOG, {}, None, odd)
    assert "97 x 96" in skipped(inputs)["media.video"]
    assert (inputs.task, inputs.media) == ("t2v", {})
    accepted(CATALOG, inputs.body())
