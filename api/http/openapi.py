"""Extends FastAPI's OpenAPI document: bodies that are read by hand, problems, and the two ways to sign in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from api.http.errors import MEDIA_TYPE
from api.http.identity import COOKIE_PREFIX
from api.http.schemas import Problem

Responses = dict[int | str, dict[str, Any]]

HEADERS: Final[Mapping[str, str]] = {
    "Idempotency-Key": "1 to 255 visible ASCII characters: the same key and body again is the same job.",
    "Prefer": "`wait=N`: answer when the job ended, or after N seconds (at most 60).",
    "Cancel-After": "A duration like 90s, 5m or 1h30m: not started by then, the job is aborted.",
    "Darkroom-Min-Position": "Wait until the views have reached this position, 5 s at most.",
    "Last-Event-ID": "The position after which to begin; from now on without it.",
}


PATTERNS: Final[Mapping[str, str]] = {
    "Idempotency-Key": "^[!-~]{1,255}$",
    "Cancel-After": "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s?)?$",
    "Last-Event-ID": "^[0-9]{1,19}$",
}
"""Patterns of headers; other values are refused."""


EVERYWHERE: Final = (401, 403, 422, 429, 503)
"""Problems of every call: no known credential, a page of another origin, an unknown query parameter, too many requests,
and an unavailable database."""


AGAIN_LATER: Final = frozenset({429, 503})

BINARY: Final[Mapping[str, Any]] = {
    "schema": {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
}
"""Bytes, for client generators: `format` is OpenAPI 3.0's keyword, `contentMediaType` 3.1's."""


def answers(documents: Mapping[int, type[BaseModel] | None], *problems: int) -> Responses:
    """The answers of a call: these documents, and problems with these statuses, in addition to those of every call."""
    described: Responses = {}
    for status, document in documents.items():
        described[status] = {"description": "As asked."} if document is None else {"model": document}
    for status in (*EVERYWHERE, *problems):
        described[status] = problem(status)
    return described


def problem(status: int) -> dict[str, Any]:
    """A problem as an answer; with the Retry-After header if repeating can help."""
    schema = {"$ref": "#/components/schemas/Problem"}
    described = {"description": "A problem (RFC 9457).", "content": {MEDIA_TYPE: {"schema": schema}}}
    if status not in AGAIN_LATER:
        return described
    header = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
    return described | {"headers": {"Retry-After": header}}


def files(*problems: int) -> Responses:
    """The answers of a call that sends a file, a range of it, or 304.

    Such a call sets `response_class=Response`: otherwise FastAPI adds that it may be JSON.
    """
    kinds = ("image/*", "video/*", "audio/*", "application/octet-stream")
    content: dict[str, Any] = {kind: dict(BINARY) for kind in kinds}
    sent: Responses = {status: {"description": "As asked.", "content": content} for status in (200, 206)}
    return answers({304: None}, *problems) | sent


def body_and_headers(body: type[BaseModel] | None, *headers: str, required: bool = True) -> dict[str, Any]:
    """The part of an operation for a body and headers that are read by hand. `required`: whether the body is."""
    extra: dict[str, Any] = {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": HEADERS[name],
                "schema": {"type": "string"} | ({"pattern": PATTERNS[name]} if name in PATTERNS else {}),
            }
            for name in headers
        ]
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        extra["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return extra


def file_in_form(field: str) -> dict[str, Any]:
    """The part of an operation for a form with one file that is read by hand."""
    schema = {
        "type": "object",
        "properties": {field: BINARY["schema"]},
        "required": [field],
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def install(app: FastAPI, routers: Sequence[APIRouter], *bodies: type[BaseModel]) -> None:
    """Describe the routers' routes, the schemas of `bodies` and the ways to sign in, once the document is asked for."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            for router in routers:  # for the document alone: `RouteTable` finds the routes
                app.include_router(router)
        document = plain()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        described: tuple[type[BaseModel], ...] = (Problem, *bodies)
        for model in described:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "cookie": {
                "type": "apiKey",
                "in": "cookie",
                "name": f"{COOKIE_PREFIX}PORT",
                "description": "A browser's session, by a sign-in link; for requests of this server's pages alone.",
            },
        }
        document["security"] = [{"token": []}, {"cookie": []}]
        return document

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI's own documentation extends it
