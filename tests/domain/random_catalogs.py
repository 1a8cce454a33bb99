"""Catalogs as nobody would write them, their conditions nested deep, and jobs that were submitted under them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st

from api.http.idempotency import RequestContext
from api.jobs.draft import draft_of
from api.jobs.submission import (
    Given,
    submission_of,
)
from domain.aggregates import generation as generations
from domain.aggregates.generation import Generation
from domain.commands import SubmitJob
from domain.recipes.catalog import Catalog, JobType
from domain.recipes.inputs import FormInputs
from domain.recipes.params import Param
from domain.recipes.recipe import SEED_MAX, InputFile, Kind, ParamValue
from domain.recipes.reuse import inputs_of
from domain.wording.text import is_blank
from tests.spec import NOW, OWNER

Json = dict[str, Any]

NAMES: Final = [f"p{number}" for number in range(7)]
SIZES: Final[Json] = {name: {"type": "integer", "minimum": 64, "maximum": 512} for name in ("width", "height")}
ASKED: Final = RequestContext(OWNER, NOW, None, None)
VALUES: Final[Mapping[str, st.SearchStrategy[ParamValue]]] = {
    "integer": st.integers(1, 4),
    "number": st.sampled_from([1.0, 1.5, 2.25, 4.0]),
    "choice": st.sampled_from(["a", "b", "c"]),
    "boolean": st.booleans(),
}
TEXT: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
PROMPTS: Final = TEXT.filter(lambda text: not is_blank(text))
SOURCES: Final = [f"{kind}:{UUID(int=number)}" for number in range(4) for kind in ("media", "asset")]


@st.composite
def params(draw: st.DrawFn) -> Json:
    """Parameters, each depending on up to two of those before it, and written down in any order."""
    made: dict[str, Json] = {}
    for name in NAMES[: draw(st.integers(2, len(NAMES)))]:
        kind = draw(st.sampled_from(sorted(VALUES)))
        entry: Json = {"type": kind, "default": draw(VALUES[kind])}
        if kind in {"integer", "number"}:
            entry |= {"minimum": draw(st.sampled_from([1, 1, 2])), "maximum": draw(st.sampled_from([3, 4, 4]))}
            entry["default"] = max(entry["minimum"], min(entry["maximum"], entry["default"]))
        elif kind == "choice":
            entry["choices"] = draw(st.sampled_from([["a", "b", "c"], ["a", "b"], ["c", "a"]]))
            entry["default"] = entry["choices"][0]
        before = list(made)
        parents = draw(st.sets(st.sampled_from(before[-2:]), max_size=2)) if before else set()
        entry["depends_on"] = {parent: draw(allowed(made[parent])) for parent in sorted(parents)}
        made[name] = entry
    shuffled = draw(st.permutations(sorted(made)))
    return {name: made[name] for name in shuffled} | SIZES


def allowed(entry: Json) -> st.SearchStrategy[Any]:
    """Values that fulfil a condition on such a parameter: one, or several, and most often its default."""
    one = taken_by(Param.model_validate(entry))
    return st.one_of(st.just(entry["default"]), one, st.lists(one, min_size=1, max_size=2))


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Two models of images and one of videos, with up to four job types."""
    taken = draw(params())
    models: Json = {}
    for name in sorted(draw(st.sets(st.sampled_from(["m0", "m1"]), min_size=1)) | {"film"}):
        painted = draw(st.sampled_from([["t2i", "i2i", "multi"], ["t2i"]]))
        tasks = ["t2v", "i2v", "extend"] if name == "film" else painted
        references = ["style", "composition", "character"] if len(tasks) > 1 and name != "film" else []
        models[name] = {
            "label": name, "pool": "sdxl", "tasks": tasks, "width": 128, "height": 128,
            "pixels_each": draw(st.sampled_from([8, 16])), "references": references[: draw(st.integers(1, 3))],
            "negative_prompts": draw(st.booleans()),
        }  # fmt: skip
    job_types: Json = {}
    for name in sorted(draw(st.sets(st.sampled_from(["j0", "j1", "j2", "j3"]), min_size=1))):
        model = draw(st.sampled_from(sorted(models)))
        film = model == "film"
        some = draw(st.sets(st.sampled_from(sorted(set(taken) - set(SIZES)))))
        job_types[name] = {
            "label": name, "model": model, "task": "t2v" if film else "t2i", "kind": "video" if film else "image",
            "bucket": name, "extension": "mp4" if film else "png", "expected_s": 4,
            "quantities": sorted(draw(st.sets(st.sampled_from([1, 2, 3, 6]), min_size=1))),
            "params": draw(st.permutations(sorted(with_parents(taken, some)))),
        }  # fmt: skip
    return Catalog.model_validate({"models": models, "job_types": job_types, "params": taken})


def with_parents(entries: Json, names: set[str]) -> set[str]:
    """These, and all they depend on."""
    parents = {parent for name in names for parent in entries[name]["depends_on"]} - names
    return with_parents(entries, names | parents) if parents else names


@dataclass(frozen=True)
class Submitted:
    """A job as it was asked for, and what the ledger holds of it."""

    catalog: Catalog
    body: Json
    command: SubmitJob

    @property
    def entry(self) -> JobType:
        """Its job type."""
        return self.catalog.job_types[self.body["job_type"]]

    def stored(self) -> Json:
        """`job.queued` as JSON."""
        (queued,) = generations.decide(self.command, Generation()).job
        return queued.model_dump(mode="json")

    def inputs(self, today: Catalog | None = None, **unusable: str) -> FormInputs:
        """The inputs under the catalog of today: the same unless another one is given."""
        return inputs_of(self.stored(), today or self.catalog, unusable)


@st.composite
def submitted(draw: st.DrawFn) -> Submitted:
    """A job of any job type of any catalog."""
    catalog = draw(catalogs())
    name = draw(st.sampled_from(sorted(catalog.job_types)))
    entry = catalog.job_types[name]
    quantity = draw(st.sampled_from(entry.quantities))
    body: Json = {"job_type": name, "prompt": draw(PROMPTS), "quantity": quantity}
    body["seed"] = draw(st.integers(0, SEED_MAX - quantity + 1))
    body["params"] = draw(values_for(catalog, entry))
    if draw(st.booleans()):
        body["negative_prompt"] = draw(TEXT | st.just(""))
    body |= draw(files_for(catalog, entry))
    return Submitted(catalog, body, accepted(catalog, body))


def taken_by(param: Param) -> st.SearchStrategy[ParamValue]:
    """Values that the parameter may have."""
    return VALUES[param.type].filter(lambda value: param.problem_with(value) is None)


@st.composite
def values_for(draw: st.DrawFn, catalog: Catalog, entry: JobType) -> dict[str, ParamValue]:
    """Some of the parameters that mean something next to each other; the others are as nobody says them."""
    asked: dict[str, ParamValue] = {}
    values: dict[str, ParamValue] = {}
    for name, param in catalog.params_of(entry).items():
        if not param.holds(values):
            continue
        value = catalog.default(entry, name)
        if name not in SIZES and draw(st.booleans()):
            value = asked[name] = draw(taken_by(param))
        assert value is not None
        values[name] = value
    return asked


@st.composite
def files_for(draw: st.DrawFn, catalog: Catalog, entry: JobType) -> Json:
    """References and media that the job type takes."""
    model = catalog.models[entry.model]
    if entry.kind is Kind.VIDEO:
        medium = draw(st.sampled_from([None, "image", "video"]))
        return {"media": {medium: draw(st.sampled_from(SOURCES))}} if medium else {}
    reference = st.fixed_dictionaries(
        {
            "type": st.sampled_from(model.references or ["style"]),
            "source": st.sampled_from(SOURCES),
            "strength": st.sampled_from([0.1, 0.55, 1.0]),
        }
    )
    references = draw(st.lists(reference, max_size=4 if model.references else 0))
    return {"references": references} if references else {}


def accepted(catalog: Catalog, body: Json) -> SubmitJob:
    """The command for a body whose sources are all files of the owner. Raises `InvalidInput`."""
    sources = {each["source"]: "image" for each in body.get("references", [])}
    sources |= {source: medium for medium, source in body.get("media", {}).items()}
    files = {
        source: InputFile.model_validate(
            {"kind": kind, "media_type": f"{kind}/x", "sha256": "ab" * 32, "path": f"uploads/{OWNER}/{source[-1]}"}
        )
        for source, kind in sources.items()
    }
    return replace(submission_of(draft_of(body), ASKED, catalog, Given(files)), job_id=UUID(int=1))
