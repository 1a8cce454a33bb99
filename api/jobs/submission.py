"""Turns body and headers of a submission into one command, or reports every problem with them at once."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.http.bodies.json_body import problems_of
from api.http.bodies.texts import NegativePrompt, Prompt, Tags
from api.http.idempotency import RequestContext, identified, retry_id, retry_sha256
from api.jobs.sources import Files, Source, parent_of, uploads_among
from domain.aggregates.asset import UnknownAsset
from domain.aggregates.generation import Generation, recipe_of_retry
from domain.aggregates.job import NotSubmitted, status_of
from domain.commands import SubmitJob
from domain.errors import FieldProblem, InvalidInput, NothingToRetry
from domain.events import MediaKind
from domain.json_type import Json
from domain.recipes.catalog import MEDIA_OF, Catalog, CompleteParams, JobType, Model
from domain.recipes.cautions import reads_negative_prompt
from domain.recipes.continuation import continued, decided_by
from domain.recipes.recipe import SEED_MAX, InputFile, ParamValue, Recipe, Reference, Task, seeds_from
from domain.wording.negative_prompt import negative_prompt_for

NEGATIVE_ERROR_CHARACTERS_MAX: Final = 200
REFERENCES_MAX: Final = 16
"""Maximum number of reference pictures of a job: each is read from the ledger, and no model takes as many."""

T = TypeVar("T")


class SubmitBody(BaseModel):
    """A job to run: `job_type`, or `model` and `task`, and a prompt. `seed` is random when absent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_type: str | None = None
    model: str | None = None
    task: str | None = None
    prompt: Prompt
    negative_prompt: NegativePrompt | None = None
    quantity: Annotated[int, Field(description="One that the job type allows; the smallest when absent.")] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    params: dict[str, Any] = Field(default_factory=dict, description="By the names of the job type's `parameters`.")
    references: Annotated[list[Reference], Field(max_length=REFERENCES_MAX)] = Field(default_factory=list)
    media: dict[str, str] = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    tags: Tags = Field(default_factory=list)
    parent_id: Annotated[
        UUID | None, Field(strict=False, description="A job of the same owner whose inputs were taken over.")
    ] = None


@dataclass(frozen=True, slots=True)
class Given:
    """The references and media of a body, or the problems with them.

    `parent_id`: the job from which the inputs were taken, else the one that this job continues. `uploads`: the uploads
    among the files.
    """

    files: Mapping[str, InputFile] = field(default_factory=dict)
    problems: Sequence[FieldProblem] = ()
    parent_id: UUID | None = None
    uploads: tuple[UUID, ...] = ()


NOTHING_GIVEN: Final = Given()


def sources_of(content: Json) -> list[Source]:
    """The sources that a body names, regardless of its other problems."""
    references, media = content.get("references"), content.get("media")
    sources: list[Source] = []
    if isinstance(references, list) and len(references) <= REFERENCES_MAX:
        sources += [
            (f"references.{place}.source", each["source"], ("image",))
            for place, each in enumerate(references)
            if isinstance(each, dict) and isinstance(each.get("source"), str)
        ]
    if isinstance(media, dict):
        kinds: Sequence[MediaKind] = ("image", "video", "audio")
        sources += [(f"media.{kind}", media[kind], (kind,)) for kind in kinds if isinstance(media.get(kind), str)]
    return sources


def given_of(content: Json, files: Files) -> Given:
    """The files and the job that a body names, or every problem with them. Blocks. Raises `Unavailable`."""
    problems: list[FieldProblem] = []
    found: dict[str, InputFile] = {}
    parent_id = None
    try:
        parent_id = parent_of(content, files.owner, files.ledger)
    except InvalidInput as invalid:
        problems += invalid.problems
    try:
        found = files.resolve(sources_of(content))
    except InvalidInput as invalid:
        problems += invalid.problems
    if problems:
        return Given(problems=problems)
    if parent_id is None and isinstance(content.get("media"), dict):
        parent_id = files.job_behind(content["media"].get("video"))
    return Given(found, parent_id=parent_id, uploads=uploads_among(found))


def has_picture(content: Json) -> bool:
    """Whether a body names a reference, or a picture to start from."""
    media = content.get("media")
    return bool(content.get("references")) or (isinstance(media, dict) and "image" in media)


def job_type_of(content: Json, catalog: Catalog) -> JobType | None:
    """The job type that a body names in either way; None if it names none."""
    found = _Problems(()).job_type(content, catalog)
    return None if found is None else found[1]


def submission_of(content: Json, asked: RequestContext, catalog: Catalog, given: Given = NOTHING_GIVEN) -> SubmitJob:
    """The command for a body. Raises `InvalidInput` with all its problems."""
    problems = _Problems(given.problems)
    body = problems.validated(content)
    job_type = problems.job_type(content, catalog)
    quantity = 1
    params = CompleteParams({}, {})
    task = None
    if job_type is not None:
        quantity = problems.collect(lambda: catalog.quantity(job_type[1], content.get("quantity")), 1)
        task = problems.task(content, job_type, catalog)
        wanted = content.get("params", {})
        if isinstance(wanted, dict):
            video = given.files.get(str(content["media"]["video"])) if task is Task.EXTEND else None
            params = problems.collect(lambda: _params(job_type[1], wanted, content, catalog, video), params)
    if body is not None and body.seed is not None and body.seed + quantity - 1 > SEED_MAX:
        problems.say("seed", f"must be at most {SEED_MAX - quantity + 1} for {quantity} images: each has the next seed")
    problems.raise_any()
    if body is None or job_type is None or task is None:
        raise AssertionError("a body without problems is complete")
    name, entry = job_type
    negative = _negative_prompt(body, catalog.models[entry.model], params.values)
    seed = body.seed if body.seed is not None else secrets.randbelow(SEED_MAX - quantity + 2)
    recipe = Recipe(
        job_type=name,
        model=entry.model,
        task=task,
        prompt=body.prompt,
        negative_prompt=negative.text,
        params=params.values,
        seeds=seeds_from(seed, quantity),
        references=tuple(body.references),
        media=body.media,
        files=dict(given.files),
        enhance=entry.enhance,
    )
    job_id, request_sha256 = identified(asked, content)
    return SubmitJob(
        job_id=job_id,
        owner=asked.owner,
        recipe=recipe,
        pool=catalog.models[entry.model].pool,
        kind=entry.kind,
        bucket=entry.bucket,
        extension=entry.extension,
        now=asked.now,
        priority=body.priority,
        tags=tuple(body.tags),
        request_sha256=request_sha256,
        deadline=asked.deadline,
        adjusted=params.adjusted,
        negative_prompt_by=negative.by,
        negative_prompt_error=negative.error,
        expected_s=catalog.expected_s(entry, params.values, quantity),
        parent_id=given.parent_id,
        uploads=given.uploads,
    )


def _params(
    job_type: JobType, asked: Mapping[str, Any], content: Json, catalog: Catalog, video: InputFile | None
) -> CompleteParams:
    """Every parameter with its value; a continued video decides some. Raises `InvalidInput`."""
    if video is None:
        return catalog.complete_params(job_type, asked, has_picture=has_picture(content))
    decided = decided_by(video)
    params = catalog.complete_params(job_type, {name: asked[name] for name in asked if name not in decided})
    return continued(params, asked, video, catalog.params_of(job_type))


@dataclass(frozen=True, slots=True)
class _NegativePrompt:
    """The negative prompt and its author; or why the rule made none."""

    text: str | None = None
    by: Literal["owner", "rule"] | None = None
    error: str | None = None


def _negative_prompt(body: SubmitBody, model: Model, params: Mapping[str, ParamValue]) -> _NegativePrompt:
    """The owner's own, unchanged; else the rule's, if the model reads one."""
    if body.negative_prompt is not None:
        return _NegativePrompt(body.negative_prompt, "owner")
    if not model.negative_prompts or not reads_negative_prompt(params):
        return _NegativePrompt()
    try:
        return _NegativePrompt(negative_prompt_for(body.prompt), "rule")
    except Exception as error:  # a picture without one is better than none; the ledger says why
        return _NegativePrompt(error=f"{type(error).__name__}: {error}"[:NEGATIVE_ERROR_CHARACTERS_MAX])


def retry_of(parent_id: UUID, parent: Generation, asked: RequestContext) -> SubmitJob:
    """The command for the one job that runs the lost outputs of `parent` again: a repeat finds the same job.

    Raises `NothingToRetry`.
    """
    recipe = recipe_of_retry(parent)
    command = successor_of(parent_id, parent, recipe, asked)
    return replace(command, job_id=retry_id(asked.owner, parent_id), request_sha256=retry_sha256(parent_id))


def successor_of(parent_id: UUID, like: Generation, recipe: Recipe, asked: RequestContext) -> SubmitJob:
    """The command for a new job, under a random id, that runs `recipe` and otherwise equals another one.

    Raises `NothingToRetry` for a job that was never queued.
    """
    job = like.job
    if isinstance(job, NotSubmitted) or not like.assets:
        raise NothingToRetry(status_of(job))
    reservation = next(asset.reservation for asset in like.assets if not isinstance(asset, UnknownAsset))
    expected_s = job.queued.expected_s
    return SubmitJob(
        job_id=uuid4(),
        owner=asked.owner,
        recipe=recipe,
        pool=job.queued.pool,
        kind=reservation.kind,
        bucket=reservation.bucket,
        extension=reservation.path.rpartition(".")[2],
        now=asked.now,
        priority=job.queued.priority,
        batch_id=job.queued.batch_id,
        parent_id=parent_id,
        tags=job.queued.tags,
        deadline=asked.deadline,
        negative_prompt_by=job.queued.negative_prompt_by,
        negative_prompt_error=job.queued.negative_prompt_error,
        expected_s=None if expected_s is None else expected_s * recipe.quantity / job.queued.recipe.quantity,
        title=job.queued.title,
    )


class _Problems:
    """Collects problems, the first one of each path."""

    def __init__(self, known: Sequence[FieldProblem]) -> None:
        self._by_path = {problem.path: problem for problem in known}

    def raise_any(self) -> None:
        if self._by_path:
            raise InvalidInput(list(self._by_path.values()))

    def validated(self, content: Json) -> SubmitBody | None:
        try:
            return SubmitBody.model_validate(content)
        except ValidationError as error:
            self._add(problems_of(error))
            return None

    def collect(self, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except InvalidInput as error:
            for problem in error.problems:  # the catalog says which values are allowed; pydantic knows only types
                self._by_path[problem.path] = problem
            return otherwise

    def job_type(self, content: Json, catalog: Catalog) -> tuple[str, JobType] | None:
        """The job type that `job_type`, or `model` and `task`, name."""
        name, model, task = (content.get(field) for field in ("job_type", "model", "task"))
        if any(value is not None and not isinstance(value, str) for value in (name, model, task)):
            return None  # pydantic has reported it
        if name is not None:
            found = self.collect(lambda: catalog.job_type(name), None)
            if found is None:
                return None
            if model is not None and model != found.model:
                self.say("model", f"the job type {name} has the model {found.model}; leave this field away")
            return name, found
        if model is None and task is None:
            self.say("job_type", f"required, or model and task; allowed: {', '.join(sorted(catalog.job_types))}")
            return None
        if model is None or task is None:
            missing, present = ("model", "task") if model is None else ("task", "model")
            self.say(missing, f"required together with {present} when job_type is absent")
            return None
        return self._job_type_of(model, task, catalog)

    def task(self, content: Json, job_type: tuple[str, JobType], catalog: Catalog) -> Task | None:
        """The job type's task with the references and media of the body; None if they are invalid."""
        references, media = content.get("references", []), content.get("media", {})
        if not isinstance(references, list) or not isinstance(media, dict):
            return None  # pydantic has reported it
        types = [str(each.get("type")) if isinstance(each, dict) else "" for each in references]
        name, entry = job_type
        task = self.collect(lambda: catalog.task(entry, types, list(media)), None)
        asked = content.get("task")
        if task is not None and asked != task and asked in MEDIA_OF and asked in catalog.tasks_of(entry):
            medium = MEDIA_OF[Task(asked)]
            self.say(f"media.{medium}", f"required for {asked}: media:ID or asset:ID of {medium} to start from")
        elif task is not None and asked is not None and asked != task:
            self.say("task", f"the job type {name} with these references and media does {task}; leave this field away")
        return task

    def _job_type_of(self, model: str, task: str, catalog: Catalog) -> tuple[str, JobType] | None:
        found = catalog.job_type_with(model, task)
        if found is not None:
            return found
        known = sorted(
            {f"{entry.model} with {each}" for entry in catalog.job_types.values() for each in catalog.tasks_of(entry)}
        )
        self.say("model", f"no job type has the model {model!r} with the task {task!r}; there is {', '.join(known)}")
        return None

    def say(self, path: str, detail: str) -> None:
        """Add a problem, unless that path has one."""
        self._by_path.setdefault(path, FieldProblem(path, detail))

    def _add(self, problems: list[FieldProblem]) -> None:
        for problem in problems:
            self._by_path.setdefault(problem.path, problem)
