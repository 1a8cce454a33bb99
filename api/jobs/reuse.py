"""The inputs of an existing job, to fill a form with. Reads the ledger, and checks that the files exist."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http import schemas
from api.http.identity import identity_of
from api.http.openapi import answers
from api.http.pages import Text
from api.http.responses import answer
from api.jobs.reading import identifier
from api.jobs.sources import Source, resolve, sources_in
from api.state import Parts, state_of
from domain.codec import UnknownEvent
from domain.errors import InvalidInput
from domain.json_type import Json
from domain.recipes.inputs import FormInputs
from domain.recipes.recipe import InputFile
from domain.recipes.reuse import inputs_of
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.ledger import Ledger

router = APIRouter(tags=["jobs"])
log = logging.getLogger(__name__)


@router.get("/v1/jobs/{job_id}/inputs", response_model=None, responses=answers({200: schemas.Inputs}, 404, 422, 503))
async def job_inputs(
    request: Request,
    job_id: str,
    job_type: Annotated[Text | None, Query(max_length=100, description="For another job type than the job's.")] = None,
) -> Response:
    """The inputs to fill a form with, to run the job again; with those that could not be reused, and why."""
    parts = state_of(request).parts
    found = identifier("job", job_id)
    owner = identity_of(request).owner
    queued = await asyncio.to_thread(parts.ledger.request_of, found, owner=owner)
    files, unusable = await _files(parts, owner, queued)
    inputs = inputs_of(queued, parts.catalog, unusable, job_type, files.get("media.video"))
    for warning in inputs.warnings:
        log.warning("the inputs of job %s: %s: %s", found, warning.code, warning.detail)
    return answer(inputs_document(found, inputs))


def inputs_document(job_id: UUID, inputs: FormInputs) -> Json:
    """`FormInputs`."""
    return {
        "job_id": job_id,
        "job_type": inputs.job_type,
        "model": inputs.model,
        "task": inputs.task,
        "prompt": inputs.prompt,
        "inputs": [
            {
                "name": each.name,
                "value": each.value,
                "depends_on": [{"name": name, "values": list(values)} for name, values in each.depends_on.items()],
            }
            for each in inputs.inputs
        ],
        "media": dict(inputs.media),
        "references": [reference.model_dump() for reference in inputs.references],
        "skipped": [{"name": each.name, "reason": each.reason} for each in inputs.skipped],
        "warnings": [{"code": each.code, "detail": each.detail} for each in inputs.warnings],
    }


async def _files(
    parts: Parts, owner: str, queued: Mapping[str, Any]
) -> tuple[Mapping[str, InputFile], Mapping[str, str]]:
    """By path in the recipe: the file, and why it cannot be used.

    Reads no file, only checks that it exists.
    """
    recipe = queued.get("recipe")
    sources = sources_in(recipe) if isinstance(recipe, dict) else []
    if not sources:
        return {}, {}
    files, unusable = await asyncio.to_thread(_found, sources, owner, parts.ledger)
    paths = sorted({file.path for file in files.values()})
    there = dict(zip(paths, await asyncio.gather(*(_is_there(parts.blobs, path) for path in paths)), strict=True))
    lost = {
        path: "its file is not in the object store any more" for path, file in files.items() if not there[file.path]
    }
    return files, unusable | lost


def _found(sources: list[Source], owner: str, ledger: Ledger) -> tuple[dict[str, InputFile], dict[str, str]]:
    """The files by path in the recipe, and why the others cannot be used. Blocks."""
    files: dict[str, InputFile] = {}
    unusable: dict[str, str] = {}
    for source in sources:
        try:
            (files[source[0]],) = resolve([source], owner, ledger).values()
        except InvalidInput as refused:
            unusable[source[0]] = refused.problems[0].detail
        except UnknownEvent as damaged:
            unusable[source[0]] = str(damaged)
    return files, unusable


async def _is_there(blobs: Blobs, path: str) -> bool:
    """If the object store is unavailable, the input is kept: the job's worker will read it."""
    try:
        return await blobs.exists(path)
    except BlobStoreUnavailable:
        log.warning("whether %s is there could not be found out", path, exc_info=True)
        return True
