"""Saved prompts: stored with a title, tags, and the task that follows from their model or job type."""

import asyncio
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_body, read_nothing
from api.http.bodies.texts import NegativePrompt, Prompt, Tags, Title
from api.http.idempotency import after_the_commit, asked_in
from api.http.identity import identity_of
from api.http.openapi import answers, body_and_headers
from api.http.pages import LIMIT_DEFAULT, Cursor, Limit, TagText, Words, page_of, place_of
from api.http.read_your_writes import POSITION, wait_for_views
from api.http.responses import answer, listed
from api.jobs.reading import identifier
from api.state import ApiState, require_broker, state_of
from domain.aggregates.prompt import prompt_id
from domain.commands import DeletePrompt, EditPrompt, PromptCommand, SavePrompt
from domain.envelope import Recorded
from domain.errors import FieldProblem, InvalidInput, NotFound
from domain.json_type import Json
from domain.recipes.catalog import Catalog
from domain.recipes.recipe import Task
from projections.projection import Rows
from projections.prompts import fold
from projections.reads import scores as score_reads
from projections.reads.scores import PromptFilter, PromptRow
from services.ledger import PROMPT, Context, PromptExecuted

router = APIRouter(tags=["prompts"])


class PromptBody(BaseModel):
    """A prompt to save, for a `model` or a `job_type`; its task follows from these."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Title
    prompt: Prompt
    negative_prompt: NegativePrompt | None = None
    model: str | None = None
    job_type: str | None = None
    tags: Tags = Field(default_factory=list)


class PromptPatch(BaseModel):
    """The changes; absent fields stay unchanged.

    Another `model` or `job_type` sets its task; tags replace the whole set.

    A null negative prompt removes it.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Title = ""
    prompt: Prompt = ""
    negative_prompt: NegativePrompt | None = None
    model: str = ""
    job_type: str = ""
    tags: Tags = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _For:
    """The model, job type and task of a prompt."""

    model: str
    job_type: str | None
    task: Task


@router.post(
    "/v1/prompts",
    status_code=201,
    response_model=None,
    responses=answers({201: schemas.SavedPrompt, 200: schemas.SavedPrompt}, 400, 404, 413, 415, 422, 503),
    openapi_extra=body_and_headers(PromptBody, "Idempotency-Key"),
)
async def save_prompt(request: Request) -> Response:
    """Save a prompt: 201. The same Idempotency-Key and body again: 200 and the same prompt, as it is now."""
    state = state_of(request)
    asked = asked_in(request)
    body = await read_body(request, PromptBody)
    if body.model is None and body.job_type is None:
        raise InvalidInput([FieldProblem("model", "required, or job_type: the prompt's task follows from it")])
    meant = _meant(state.parts.catalog, body.model, body.job_type)
    command = SavePrompt(
        owner=asked.owner,
        title=body.title,
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        model=meant.model,
        job_type=meant.job_type,
        task=meant.task,
        tags=tuple(body.tags),
        now=asked.now,
    )
    found = prompt_id(asked.owner, asked.key)
    executed = await _execute(request, found, command)
    with after_the_commit():
        document = await asyncio.to_thread(_from_ledger, state, asked.owner, found)
    return answer(document, 201 if executed.decision else 200, position=executed.position)


@router.get("/v1/prompts", response_model=None, responses=answers({200: schemas.Page[schemas.SavedPrompt]}, 422, 503))
async def list_prompts(
    request: Request,
    task: Annotated[Task | None, Query()] = None,
    tag: TagText | None = None,
    q: Words = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """The newest first."""
    state = state_of(request)
    place = place_of("prompts", cursor)
    await wait_for_views(request, state.positions, "prompts", "scores")
    wanted = PromptFilter(task=task, tag=tag, words=q)
    before = None if place is None else place[0]
    rows = await asyncio.to_thread(_rows, state, identity_of(request).owner, wanted, before, limit + 1)
    page, following = page_of(rows, limit, "prompts", lambda row: [row.saved_position])
    return listed([prompt_document(row) for row in page], following)


@router.get("/v1/prompts/{prompt}", response_model=None, responses=answers({200: schemas.SavedPrompt}, 404, 503))
async def get_prompt(request: Request, prompt: str) -> Response:
    """One saved prompt."""
    state = state_of(request)
    found = identifier("prompt", prompt)
    await wait_for_views(request, state.positions, "prompts", "scores")
    return answer(await asyncio.to_thread(_read, state, identity_of(request).owner, found))


@router.patch(
    "/v1/prompts/{prompt}",
    response_model=None,
    responses=answers({200: schemas.SavedPrompt}, 400, 404, 413, 415, 422, 503),
    openapi_extra=body_and_headers(PromptPatch),
)
async def edit_prompt(request: Request, prompt: str) -> Response:
    """Change the given fields."""
    state = state_of(request)
    found = identifier("prompt", prompt)
    body = await read_body(request, PromptPatch)
    given = body.model_dump(exclude_unset=True)
    if not given:
        raise InvalidInput([FieldProblem("body", f"must have some of {', '.join(PromptPatch.model_fields)}")])
    executed = await _execute(request, found, _edit(state, given))
    with after_the_commit():
        document = await asyncio.to_thread(_from_ledger, state, identity_of(request).owner, found)
    return answer(document, position=executed.position)


@router.delete(
    "/v1/prompts/{prompt}", status_code=204, response_model=None, responses=answers({204: None}, 404, 422, 503)
)
async def delete_prompt(request: Request, prompt: str) -> Response:
    """Delete a saved prompt."""
    found = identifier("prompt", prompt)
    await read_nothing(request)
    executed = await _execute(request, found, DeletePrompt(state_of(request).parts.clock()))
    return Response(status_code=204, headers={POSITION: str(executed.position)})


def prompt_document(row: PromptRow) -> Json:
    """`SavedPrompt`."""
    return {
        "id": row.prompt_id,
        "title": row.title,
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "model": row.model,
        "job_type": row.job_type,
        "task": row.task,
        "tags": row.tags,
        "usage_count": row.usage_count,
        "mean_score": row.mean_score,
        "score": row.score,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _meant(catalog: Catalog, model: str | None, job_type: str | None) -> _For:
    """The job type's model and task, or the model's first task. Raises `InvalidInput`."""
    if job_type is not None:
        entry = catalog.job_type(job_type)
        if model is not None and model != entry.model:
            raise InvalidInput(
                [FieldProblem("model", f"the job type {job_type} has the model {entry.model}; leave this field away")]
            )
        return _For(entry.model, job_type, entry.task)
    if model is None:
        raise InvalidInput([FieldProblem("model", "must name a model; or name a job type in `job_type`")])
    return _For(model, None, catalog.model(model).tasks[0])


def _edit(state: ApiState, given: dict[str, Any]) -> EditPrompt:
    meant = None
    if "model" in given or "job_type" in given:
        meant = _meant(state.parts.catalog, given.get("model"), given.get("job_type"))
    negative = (given["negative_prompt"] or "") if "negative_prompt" in given else None
    return EditPrompt(
        now=state.parts.clock(),
        title=given.get("title"),
        prompt=given.get("prompt"),
        negative_prompt=negative,
        model=None if meant is None else meant.model,
        job_type=None if meant is None else meant.job_type,
        task=None if meant is None else meant.task,
        tags=tuple(given["tags"]) if "tags" in given else None,
    )


async def _execute(request: Request, found: UUID, command: PromptCommand) -> PromptExecuted:
    state = state_of(request)
    require_broker(state)
    owner = identity_of(request).owner
    return await asyncio.to_thread(
        state.parts.ledger.execute, PROMPT, found, command, Context(actor=owner, owner=owner)
    )


def _from_ledger(state: ApiState, owner: str, found: UUID) -> Json:
    """The owner's prompt folded from its events: works even if no view has it. Raises `NotFound`."""
    rows: Rows = {}
    for event in state.parts.ledger.stream(found):
        if isinstance(event, Recorded):
            fold(rows, event)
    row = rows.get(str(found))
    if row is None or row["owner"] != owner:
        raise NotFound("prompt", found)
    with state.parts.views.of(owner) as connection:
        standing = score_reads.standing_of(connection, owner, row["prompt"])
    columns = {each.name: row[each.name] for each in fields(PromptRow) if each.name in row}
    return prompt_document(PromptRow(**columns | {"prompt_id": found} | asdict(standing)))


def _read(state: ApiState, owner: str, found: UUID) -> Json:
    rows = _rows(state, owner, PromptFilter(found))
    return prompt_document(rows[0]) if rows else _from_ledger(state, owner, found)


def _rows(
    state: ApiState, owner: str, wanted: PromptFilter, before: int | None = None, limit: int = 1
) -> list[PromptRow]:
    with state.parts.views.of(owner) as connection:
        return score_reads.list_prompts(connection, owner, wanted, before=before, limit=limit)
