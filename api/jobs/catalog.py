"""The catalog for forms: models, job types, and their parameters as JSON Schema."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http import schemas
from api.http.openapi import answers
from api.http.responses import answer
from api.state import state_of
from domain.recipes.catalog import Catalog, JobType

router = APIRouter(tags=["catalog"])


@router.get("/v1/models", response_model=None, responses=answers({200: schemas.CatalogPage[schemas.ModelEntry]}))
async def list_models(request: Request) -> Response:
    """All models that workers can load."""
    catalog = state_of(request).parts.catalog
    results = [
        {
            "name": name,
            "label": model.label,
            "pool": model.pool,
            "tasks": list(model.tasks),
            "width": model.width,
            "height": model.height,
            "references": list(model.references),
            "draws": model.draws,
        }
        for name, model in catalog.models.items()
    ]
    groups = _groups((task, name) for name, model in catalog.models.items() for task in model.tasks)
    return answer({"results": results, "next": None, "groups": groups})


@router.get("/v1/job-types", response_model=None, responses=answers({200: schemas.CatalogPage[schemas.JobTypeEntry]}))
async def list_job_types(request: Request) -> Response:
    """All job types that can be submitted."""
    catalog = state_of(request).parts.catalog
    results = [
        {
            "name": name,
            "label": entry.label,
            "model": entry.model,
            "task": entry.task,
            "tasks": list(catalog.tasks_of(entry)),
            "kind": entry.kind,
            "bucket": entry.bucket,
            "extension": entry.extension,
            "quantities": list(entry.quantities),
            "expected_s": list(entry.expected_s),
            "references": list(catalog.models[entry.model].references),
            "enhance": entry.enhance,
            "parameters": parameters_schema(catalog, entry),
        }
        for name, entry in catalog.job_types.items()
    ]
    groups = _groups((task, name) for name, entry in catalog.job_types.items() for task in catalog.tasks_of(entry))
    return answer({"results": results, "next": None, "groups": groups})


def parameters_schema(catalog: Catalog, entry: JobType) -> dict[str, Any]:
    """JSON Schema of the `params` of a job type, parents first, with its defaults.

    `depends_on` names the parents of each parameter, and the values under which it has an effect.
    """
    properties = {
        name: param.json_schema() | {"default": catalog.default(entry, name)}
        for name, param in catalog.params_of(entry).items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _groups(named: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for task, name in named:
        groups.setdefault(str(task), []).append(name)
    return [{"task": task, "names": names} for task, names in groups.items()]
