"""The recipe: what decides a result, and the ids, seeds and paths that follow from it."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.recipes.recipe import SEED_MAX, InputFile, Recipe, Reference, Task, asset_id, asset_path, seeds_from
from tests.spec import JOB_ID, recipe

REFERENCE = Reference(type="style", source=f"media:{JOB_ID}", strength=0.5)


@given(seed=st.integers(0, SEED_MAX), quantity=st.integers(1, 6))
def test_each_asset_has_its_own_seed(seed: int, quantity: int) -> None:
    seeds = seeds_from(seed, quantity)
    assert seeds == tuple(range(seed, seed + quantity))


@given(seed=st.integers(0, SEED_MAX), quantity=st.integers(1, 6))
def test_a_recipe_owes_one_asset_per_seed(seed: int, quantity: int) -> None:
    assert recipe().model_copy(update={"seeds": seeds_from(seed, quantity)}).quantity == quantity


def test_the_id_of_an_asset_follows_from_its_job_for_ever() -> None:
    job_id = UUID("00000000-0000-4000-8000-000000000000")
    assert asset_id(job_id, 0) == UUID("14673c58-b0cc-5bf1-99d8-ff5638aca85d")
    assert asset_id(job_id, 5) == UUID("86f4227b-1fd2-5c07-9b88-11ebabf45585")


def test_assets_never_share_an_id() -> None:
    jobs = [JOB_ID, UUID("00000000-0000-4000-8000-000000000000")]
    assert len({asset_id(job_id, index) for job_id in jobs for index in range(12)}) == 24


def test_a_file_lies_under_its_bucket_and_owner() -> None:
    assert asset_path("sdxl_image_fast", "ada", JOB_ID, 2, "png") == f"sdxl_image_fast/ada/{JOB_ID}_2.png"


def test_the_fingerprint_of_a_recipe_is_the_same_for_ever() -> None:
    assert recipe().fingerprint() == "11638aa9d1eb9282e967193ae49a6478ce181b4328f5890a8fb75e4abf31af42"


def test_the_order_of_parameters_does_not_change_the_fingerprint() -> None:
    turned = recipe().model_copy(update={"params": dict(reversed(recipe().params.items()))})
    assert list(turned.params) != list(recipe().params)
    assert turned.fingerprint() == recipe().fingerprint()


def test_the_fingerprint_survives_the_ledger() -> None:
    full = recipe().model_copy(update={"references": (REFERENCE,), "media": {"image": f"asset:{JOB_ID}"}})
    assert Recipe.model_validate_json(full.model_dump_json()).fingerprint() == full.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"job_type": "sdxl_image_high"},
        {"model": "sdxl"},
        {"model_revision": "8f1e"},
        {"task": Task.IMAGE_TO_IMAGE},
        {"prompt": "a lighthouse in the fog"},
        {"negative_prompt": "blurry"},
        {"params": {"width": 256, "height": 256, "steps": 16, "guidance": 6.0}},
        {"seeds": (42, 43)},
        {"seeds": (43, 42, 44)},
        {"references": (REFERENCE,)},
        {"media": {"image": f"asset:{JOB_ID}"}},
        {"enhance": True},
    ],
    ids=str,
)
def test_whatever_decides_the_result_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert recipe().model_copy(update=change).fingerprint() != recipe().fingerprint()


def test_a_file_counts_by_its_content_alone() -> None:
    def started_from(source: str, sha256: str) -> Recipe:
        file = InputFile(kind="image", media_type="image/png", sha256=sha256, path=f"uploads/ada/{source}")
        reference = Reference(type="style", source=source, strength=0.5)
        change = {"references": (reference,), "media": {"image": source}, "files": {source: file}}
        return recipe().model_copy(update=change)

    first = started_from(f"media:{JOB_ID}", "ab" * 32)
    assert started_from(f"asset:{JOB_ID}", "ab" * 32).fingerprint() == first.fingerprint()
    assert started_from(f"media:{JOB_ID}", "cd" * 32).fingerprint() != first.fingerprint()


def test_every_field_of_a_recipe_is_tried_above() -> None:
    assert set(Recipe.model_fields) == {
        "job_type", "model", "model_revision", "task", "prompt", "negative_prompt", "params", "seeds", "references",
        "media", "files", "enhance",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"), [("seeds", []), ("seeds", [-1]), ("task", "paint"), ("colour", "red"), ("prompt", None)]
)
def test_a_recipe_refuses_what_it_cannot_hold(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({**recipe().model_dump(), field: value})
    assert caught.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize("strength", [0.0, 0.09, 1.01, float("nan")])
def test_the_strength_of_a_reference_is_bounded(strength: float) -> None:
    with pytest.raises(ValidationError):
        Reference(type="style", source=f"media:{JOB_ID}", strength=strength)
