"""The composition root of the API: takes parts, returns an ASGI application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final
from uuid import UUID

from fastapi import FastAPI
from starlette.types import Scope

from api.admin import all_jobs, dead_jobs, fleet, health, metrics, views_and_queues
from api.assets import library, purging, uploads, workspace
from api.assets import routes as assets
from api.batches import bodies as batch_bodies
from api.batches import routes as batch_routes
from api.events import stream
from api.events.feed import Feed
from api.http import errors, openapi
from api.http.head_requests import HeadRequests
from api.http.identity import Gate, Identities
from api.http.known_query import KnownQuery
from api.http.limits.open_connections import address_of
from api.http.limits.pacing import Company, Pacing
from api.http.limits.places import Places, places
from api.http.limits.rates import Rates
from api.http.limits.request_limits import BoundedRequests, RateLimit
from api.http.limits.turns import Turns
from api.http.protocol import connections_max
from api.http.read_your_writes import ViewPositions
from api.http.request_log import Observed
from api.http.response_headers import AnswerHeaders
from api.http.routing import RouteTable
from api.jobs import catalog, reuse
from api.jobs import routes as jobs
from api.jobs.draft import SubmitBody
from api.jobs.handed_out import HandedOutBoard
from api.jobs.progress import ProgressBoard
from api.prompts import enhance, scores
from api.prompts import routes as prompts
from api.state import ApiState, Parts
from api.web import docs, sign_in
from projections import ALL
from projections.reads.jobs import RunningAttempt, running_attempts
from services.observability.watch import Watch

__all__ = ["Parts", "create_app", "end_streams"]

THREADS: Final = 64
"""Maximum number of commands that wait for their commit at a time: each holds a thread, and all share a group
commit."""

ROUTERS: Final = (
    jobs,
    batch_routes,
    reuse,
    enhance,
    assets,
    purging,
    uploads,
    workspace,
    library,
    prompts,
    scores,
    sign_in,
    stream,
    catalog,
    views_and_queues,
    all_jobs,
    fleet,
    dead_jobs,
    metrics,
    health,
    docs,
)

BODIES: Final = (
    SubmitBody,
    enhance.EnhanceBody,
    assets.RatingBody,
    assets.AssetPatch,
    *batch_bodies.ALL,
    prompts.PromptBody,
    prompts.PromptPatch,
    all_jobs.PriorityBody,
    fleet.ReasonBody,
)
"""The bodies that routes parse themselves, for the OpenAPI document."""


def create_app(parts: Parts) -> FastAPI:
    """Create the application. Its lifespan runs the event feed; the caller opens and closes the parts."""
    feed = Feed(parts.ledger)
    identities = Identities(parts.admin_token, parts.database)
    board = ProgressBoard(partial(_who_works, parts), feed.progress)
    receiving, decoding = uploads.receiving(parts.upload_bytes_max), uploads.decoding()
    watch = parts.watch or _watch(parts)
    positions, handed_out = ViewPositions(parts.database), HandedOutBoard(parts.broker)
    company = Company()
    batches = Pacing(company), Pacing(company)
    running = ApiState(
        parts, identities, feed, board, positions, handed_out, receiving, decoding, company, *batches, watch
    )
    app = FastAPI(
        title="Darkroom",
        summary="A ledger for AI image and video generation.",
        version="1",
        lifespan=_lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # function names in generated clients
        docs_url=None,  # the framework's page loads scripts from other hosts
        redoc_url=None,
    )
    app.state.running = running
    errors.install(app)
    table = RouteTable(route for module in ROUTERS for route in module.router.routes)
    app.router.routes.append(table)
    app.add_middleware(KnownQuery, table=table)
    app.add_middleware(HeadRequests)
    app.add_middleware(Places, bounds=places(connections_max()), company=company)
    app.add_middleware(RateLimit, rates=Rates(parts.requests_per_s_max, parts.requests_at_once_max))
    app.add_middleware(Gate, identities=identities)
    app.add_middleware(BoundedRequests)
    app.add_middleware(Observed)
    app.add_middleware(AnswerHeaders)
    app.add_middleware(Turns, name_of=partial(_name_of, identities))  # the last one added is the outermost
    bodies = (SubmitBody, enhance.EnhanceBody, assets.RatingBody, assets.AssetPatch, *batch_bodies.ALL)
    routers = [module.router for module in ROUTERS]
    openapi.install(
        app, routers, *bodies, prompts.PromptBody, prompts.PromptPatch, all_jobs.PriorityBody, fleet.ReasonBody
    )
    return app


def _name_of(identities: Identities, scope: Scope) -> str:
    owner = identities.remembered(scope)
    return f"address {address_of(scope)}" if owner is None else f"owner {owner}"


def _watch(parts: Parts) -> Watch:
    return Watch(parts.database, parts.broker, {view.name: view.version for view in ALL})


def _who_works(parts: Parts, job_ids: Sequence[UUID]) -> Sequence[RunningAttempt]:
    with parts.database.connection() as connection:
        return running_attempts(connection, job_ids)


def end_streams(app: FastAPI) -> None:
    """End every event stream before the server waits for its open requests."""
    app.state.running.feed.end()


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: ApiState = app.state.running
    # The loop shuts its executor down itself, after everything that uses it.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="api"))
    await state.progress.listen(state.parts.broker)
    state.handed_out.begin()
    feeding = asyncio.create_task(state.feed.run(state.parts.broker))
    try:
        yield
    finally:
        state.feed.end()
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
