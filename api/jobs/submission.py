"""Turns the body of a submission into a command; an invalid body yields every problem, each with its path."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeVar
from uuid import UUID, uuid4

from api.http.idempotency import RequestContext, identified, retry_id, retry_sha256
from api.jobs.draft import Draft, SubmitBody
from api.jobs.sources import Files, require_job_of, uploads_among
from domain.aggregates.asset import UnknownAsset
from domain.aggregates.generation import Generation, recipe_of_retry
from domain.aggregates.job import NotSubmitted, status_of
from domain.commands import SubmitJob
from domain.errors import FieldProblem, InvalidInput, NothingToRetry
from domain.recipes.catalog import MEDIA_OF, Catalog, CompleteParams, JobType, Model
from domain.recipes.cautions import reads_negative_prompt
from domain.recipes.continuation import continued, decided_by
from domain.recipes.recipe import SEED_MAX, InputFile, ParamValue, Recipe, Task, seeds_from
from domain.wording.negative_prompt import negative_prompt_for

NEGATIVE_ERROR_CHARACTERS_MAX: Final = 200

T = TypeVar("T")


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


def given_of(draft: Draft, files: Files) -> Given:
    """The files and the job that a body names, or every problem with them. Blocks. Raises `Unavailable`."""
    problems: list[FieldProblem] = []
    found: dict[str, InputFile] = {}
    parent_id = draft.body.parent_id
    try:
        if parent_id is not None:
            require_job_of(files.owner, parent_id, files.ledger)
    except InvalidInput as invalid:
        problems += invalid.problems
    try:
        found = files.resolve(draft.sources)
    except InvalidInput as invalid:
        problems += invalid.problems
    if problems:
        return Given(problems=problems)
    if parent_id is None:
        parent_id = files.job_behind(draft.body.media.get("video"))
    return Given(found, parent_id=parent_id, uploads=uploads_among(found))


def job_type_of(draft: Draft, catalog: Catalog) -> JobType | None:
    """The job type that a body names in either way; None if it names none."""
    found = _Checks(draft, catalog).job_type()
    return None if found is None else found[1]


def submission_of(draft: Draft, asked: RequestContext, catalog: Catalog, given: Given = NOTHING_GIVEN) -> SubmitJob:
    """The command for a body. Raises `InvalidInput` with all its problems."""
    name, entry, task, quantity, params = _Checks(draft, catalog, given).complete()
    body = draft.body
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
    job_id, request_sha256 = identified(asked, draft.content)
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


class _Checks:
    """Checks a body against the catalog; collects problems, the first one of each path."""

    def __init__(self, draft: Draft, catalog: Catalog, given: Given = NOTHING_GIVEN) -> None:
        self._draft = draft
        self._body = draft.body
        self._catalog = catalog
        self._files = given.files
        self._by_path: dict[str, FieldProblem] = {}
        for problem in (*given.problems, *draft.problems):
            self._by_path.setdefault(problem.path, problem)

    def complete(self) -> tuple[str, JobType, Task, int, CompleteParams]:
        """The job type with its name, and task, quantity and parameters of the job. Raises `InvalidInput`."""
        found = self.job_type()
        quantity, params, task = 1, CompleteParams({}, {}), None
        if found is not None:
            name, entry = found
            # As it was sent: the catalog says which numbers are allowed, also to one who sent a word.
            quantity = self._collect(lambda: self._catalog.quantity(entry, self._draft.content.get("quantity")), 1)
            task = self._task(name, entry)
            if self._draft.has("params"):
                params = self._collect(lambda: self._params(entry, task), params)
        seed = self._body.seed
        if seed is not None and seed + quantity - 1 > SEED_MAX:
            detail = f"must be at most {SEED_MAX - quantity + 1} for {quantity} images: each has the next seed"
            self._say("seed", detail)
        if self._by_path or found is None or task is None:
            raise InvalidInput(list(self._by_path.values()))
        return *found, task, quantity, params

    def job_type(self) -> tuple[str, JobType] | None:
        """The job type that `job_type`, or `model` and `task`, name."""
        if not self._draft.has("job_type", "model", "task"):
            return None
        name, model, task = self._body.job_type, self._body.model, self._body.task
        if name is not None:
            found = self._collect(lambda: self._catalog.job_type(name), None)
            if found is None:
                return None
            if model is not None and model != found.model:
                self._say("model", f"the job type {name} has the model {found.model}; leave this field away")
            return name, found
        if model is None and task is None:
            names = ", ".join(sorted(self._catalog.job_types))
            self._say("job_type", f"required, or model and task; allowed: {names}")
            return None
        if model is None or task is None:
            missing, present = ("model", "task") if model is None else ("task", "model")
            self._say(missing, f"required together with {present} when job_type is absent")
            return None
        return self._job_type_with(model, task)

    def _job_type_with(self, model: str, task: str) -> tuple[str, JobType] | None:
        found = self._catalog.job_type_with(model, task)
        if found is not None:
            return found
        entries = self._catalog.job_types.values()
        known = sorted({f"{entry.model} with {each}" for entry in entries for each in self._catalog.tasks_of(entry)})
        self._say("model", f"no job type has the model {model!r} with the task {task!r}; there is {', '.join(known)}")
        return None

    def _task(self, name: str, entry: JobType) -> Task | None:
        """The job type's task with the references and media of the body; None if they are invalid."""
        inputs = self._draft.inputs
        if inputs is None:
            return None
        task = self._collect(lambda: self._catalog.task(entry, *inputs), None)
        asked = self._body.task
        if task is not None and asked != task and asked in MEDIA_OF and asked in self._catalog.tasks_of(entry):
            medium = MEDIA_OF[Task(asked)]
            self._say(f"media.{medium}", f"required for {asked}: media:ID or asset:ID of {medium} to start from")
        elif task is not None and asked is not None and asked != task:
            self._say("task", f"the job type {name} with these references and media does {task}; leave this field away")
        return task

    def _params(self, entry: JobType, task: Task | None) -> CompleteParams:
        """Every parameter with its value; a continued video decides some. Raises `InvalidInput`."""
        asked, catalog = self._body.params, self._catalog
        video = self._files.get(self._body.media.get("video", "")) if task is Task.EXTEND else None
        if video is None:
            return catalog.complete_params(entry, asked, has_picture=self._draft.has_picture())
        decided = decided_by(video)
        params = catalog.complete_params(entry, {name: asked[name] for name in asked if name not in decided})
        return continued(params, asked, video, catalog.params_of(entry))

    def _collect(self, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except InvalidInput as error:
            for problem in error.problems:  # the catalog says which values are allowed; pydantic knows only types
                self._by_path[problem.path] = problem
            return otherwise

    def _say(self, path: str, detail: str) -> None:
        """Add a problem, unless that path has one."""
        self._by_path.setdefault(path, FieldProblem(path, detail))
