"""Whatever a program sends, every answer is one that the OpenAPI document describes, and none is an error of ours.

Schemathesis makes the requests from the document itself, so a new call is tested as soon as it is described.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import given, settings
from hypothesis.strategies import one_of
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.hooks import HookContext
from schemathesis.schemas import BaseSchema

from api.state import Parts
from projections import ALL
from services.views.rebuild import Rebuilt, rebuild
from tests.api.conftest import bearer, serving
from tests.api.serving import AServer, Site
from tests.services.media_files import encoded, picture

JOB_TYPES: Final = ("sdxl_image_fast", "video_fast", "image7b_fast_enhanced")

EXAMPLES_MAX: Final = 30
"""Random requests of each call, next to those for every limit that its schema names."""

STREAM: Final = "/v1/events"
"""Answers without an end: asked for its head alone."""

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)

DONE: Final = {
    "POST /v1/jobs",
    "POST /v1/jobs/{job_id}/retry",
    "POST /v1/uploads",
    "POST /v1/enhance",
    "GET /v1/jobs/{job_id}/history",
    "GET /v1/library",
    "GET /v1/assets/{asset_id}/content",
    "GET /v1/assets/{asset_id}/thumbnail",
    "PUT /v1/assets/{asset_id}/rating",
    "PATCH /v1/assets/{asset_id}",
    "DELETE /v1/assets/{asset_id}",
    "POST /v1/assets/{asset_id}/restore",
    "DELETE /v1/workspace/{asset_id}",
    "POST /v1/admin/projections/{name}/rebuild",
}
"""Calls of which at least one request must be good enough to get behind the checks of its form."""


@pytest_asyncio.fixture
async def server(parts: Parts, project: Callable[[], None]) -> AsyncIterator[AServer]:
    """As `darkroom up` serves: views can be rebuilt."""
    views = {view.name: view for view in ALL}

    def build(name: str) -> Rebuilt:
        return rebuild(parts.database, parts.ledger, views[name])

    async with serving(replace(parts, rebuild=build)) as served:
        yield served


@pytest.mark.slow
@pytest.mark.timeout(1800)  # thousands of requests
async def test_every_answer_is_one_that_is_described(site: Site, server: AServer) -> None:
    ids = await existing(site)
    document = (await site.http.get("/openapi.json")).json()
    failures, called, done = await asyncio.to_thread(attack, document, server.url, ids, site.project)
    assert failures == [], "\n\n".join(failures)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert called == {f"{method} {path}" for method, path in described if path != STREAM}
    assert done >= DONE


async def test_the_event_stream_answers_as_described_whatever_is_asked(site: Site, server: AServer) -> None:
    document = (await site.http.get("/openapi.json")).json()
    answered = await asyncio.to_thread(attack_stream, document, server.url)
    assert answered == {(200, "text/event-stream; charset=utf-8"), (422, "application/problem+json")}


async def existing(site: Site) -> dict[str, list[str]]:
    """Ids that stand for something, by the name of their path parameter."""
    finished = await site.finished()
    for asset in finished["assets"]:
        await site.thumbnail(asset)
    waiting = await site.submit()
    failed = await site.submit(quantity=1)
    await site.start(failed)
    await site.fail(failed, 0)
    upload = await site.http.post("/v1/uploads", files={"file": encoded(picture())})
    body = {"title": "Fog", "prompt": "a lighthouse in fog", "job_type": JOB_TYPES[0]}
    prompt = await site.http.post("/v1/prompts", json=body)
    await site.get("/v1/jobs")
    jobs = [finished, waiting, failed]
    return {
        "job_id": [job["id"] for job in jobs],
        "asset_id": [asset["id"] for job in [finished, failed] for asset in job["assets"]],
        "media": [upload.json()["id"]],
        "prompt": [prompt.json()["id"]],
    }


def attack(
    document: dict[str, Any], url: str, ids: dict[str, list[str]], between: Callable[[], None]
) -> tuple[list[str], set[str], set[str]]:
    """What schemathesis found, the calls that it made, and those that did what was asked at least once. Blocks.

    `between` runs after each call's requests.
    """
    schema = schemathesis.openapi.from_dict(document, config=configured(url)).exclude(path=STREAM)
    know(schema, ids)
    failures: list[str] = []
    called: set[str] = set()
    done: set[str] = set()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                called.add(recorder.label)
                answers = [interaction.response for interaction in recorder.interactions.values()]
                if any(answer is not None and answer.status_code < 300 for answer in answers):
                    done.add(recorder.label)
                failures += [
                    f"{recorder.label}: {check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                    for checks in recorder.checks.values()
                    for check in checks
                    if check.failure_info is not None
                ]
                between()
            case events.NonFatalError() | events.FatalError():
                failures.append(f"{event}")
            case _:
                pass
    return failures, called, done


def attack_stream(document: dict[str, Any], url: str) -> set[tuple[int, str]]:
    """Status and media type of the answers of the event stream, of which only the head is read. Blocks."""
    operation = schemathesis.openapi.from_dict(document, config=configured(url))[STREAM]["GET"]
    answered: set[tuple[int, str]] = set()

    @settings(max_examples=EXAMPLES_MAX, derandomize=True, database=None, deadline=None)
    @given(one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def ask(case: Case) -> None:
        sent = case.as_transport_kwargs(base_url=url, headers=bearer())
        with requests.Session() as session, session.request(**sent, stream=True, timeout=20) as response:
            answered.add((response.status_code, response.headers["Content-Type"]))

    ask()
    return answered


def configured(url: str) -> SchemathesisConfig:
    """The same requests in every run."""
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "headers": bearer(),
            "request-timeout": 20,
            "generation": {"max-examples": EXAMPLES_MAX, "deterministic": True, "no-shrink": True, "codec": "utf-8"},
            "phases": {"stateful": {"enabled": False}},
            "checks": {"enabled": False} | {name: {"enabled": True} for name in CHECKS},
        }
    )


def know(schema: BaseSchema, ids: dict[str, list[str]]) -> None:
    """Every other request names what exists: by an id in its path, or the job type in its body."""
    turns: defaultdict[str, Iterator[int]] = defaultdict(count)

    def sometimes(context: HookContext, drawn: object, known: Sequence[str]) -> object:
        turn, odd = divmod(next(turns[context.operation.label]), 2)
        return known[turn % len(known)] if odd else drawn

    @schema.hook
    def map_path_parameters(context: HookContext, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, known in ids.items():
            if parameters is not None and name in parameters:
                parameters[name] = sometimes(context, parameters[name], known)
        return parameters

    @schema.hook
    def map_body(context: HookContext, body: Any) -> Any:
        if isinstance(body, dict) and {"job_type", "prompt"} <= set(body):
            body["job_type"] = sometimes(context, body["job_type"], JOB_TYPES)
            if body["job_type"] in JOB_TYPES:
                for name in ("model", "task", "quantity", "params", "references", "media"):  # hardly ever right for it
                    body.pop(name, None)
        return body
