"""For administrators: the workers, and holding pools and workers. A hold is an event with its actor and reason."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from nats.errors import Error as NatsError
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_optional
from api.http.errors import ViewBehind
from api.http.identity import require_admin
from api.http.openapi import answers, body_and_headers
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, listed
from api.state import ApiState, require_broker, state_of
from domain.aggregates.fleet import OnHold, pool_stream, worker_stream
from domain.commands import Drain, FleetCommand, Pause, Resume
from domain.errors import NotFound
from domain.json_type import Json
from projections.reads import jobs as reads
from services.ledger import POOL, WORKER, Context, Ledger, PoolExecuted, WorkerExecuted
from services.messaging.wire import HAIL, hail_subject
from services.queue.fleet import NAME_CHARACTERS_MAX, PoolRow, WorkerRow, read_pools, read_workers

router = APIRouter(tags=["admin"])

WORKER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)

SEEN_S_MAX: Final = 2.0
"""Seconds to wait for the view; the decision is valid even if the view does not show it yet."""

CHANGED: Final = answers({200: schemas.FleetChange}, 400, 403, 404, 413, 415, 422, 503)

Kind = Literal["pool", "worker"]


class ReasonBody(BaseModel):
    """The reason, for later readers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[str, Field(min_length=1, max_length=500)] | None = None


WITH_REASON: Final = body_and_headers(ReasonBody, required=False)


@router.get(
    "/v1/admin/workers", response_model=None, responses=answers({200: schemas.Page[schemas.WorkerState]}, 403, 503)
)
async def list_workers(request: Request) -> Response:
    """Every worker: whether it is connected, its device, its models, and what it does and since when."""
    require_admin(request)
    state = state_of(request)
    await wait_for_views(request, state.positions, "queue", "fleet")
    return listed(await asyncio.to_thread(_workers, state))


@router.get("/v1/admin/pools", response_model=None, responses=answers({200: schemas.Page[schemas.PoolState]}, 403, 503))
async def list_pools(request: Request) -> Response:
    """Every pool of the catalog: its workers, its waiting and running jobs, and whether it is held."""
    require_admin(request)
    state = state_of(request)
    await wait_for_views(request, state.positions, "queue", "fleet")
    return listed(await asyncio.to_thread(_pools, state))


@router.post("/v1/admin/pools/{pool}/pause", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def pause_pool(request: Request, pool: str) -> Response:
    """Stop dispatching jobs of the pool. Running jobs continue; new ones are accepted and wait."""
    return await _change(request, "pool", pool, Pause)


@router.post("/v1/admin/pools/{pool}/drain", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def drain_pool(request: Request, pool: str) -> Response:
    """The same, to empty the pool: its state is `drained` once its last job has ended."""
    return await _change(request, "pool", pool, Drain)


@router.post("/v1/admin/pools/{pool}/resume", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def resume_pool(request: Request, pool: str) -> Response:
    """Dispatch its jobs again."""
    return await _change(request, "pool", pool, Resume)


@router.post("/v1/admin/workers/{worker}/pause", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def pause_worker(request: Request, worker: str) -> Response:
    """The worker takes no further job, also after a restart under the same name. Its current job continues."""
    return await _change(request, "worker", worker, Pause)


@router.post("/v1/admin/workers/{worker}/drain", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def drain_worker(request: Request, worker: str) -> Response:
    """The same, to shut the worker down: its state is `drained` once its current job has ended."""
    return await _change(request, "worker", worker, Drain)


@router.post("/v1/admin/workers/{worker}/resume", response_model=None, responses=CHANGED, openapi_extra=WITH_REASON)
async def resume_worker(request: Request, worker: str) -> Response:
    """The worker takes jobs again."""
    return await _change(request, "worker", worker, Resume)


async def _change(
    request: Request, kind: Kind, name: str, command_of: Callable[[str, datetime, str | None], FleetCommand]
) -> Response:
    identity = require_admin(request)
    state = state_of(request)
    _require_name(state, kind, name)
    body = await read_optional(request, ReasonBody)
    require_broker(state)
    now = state.parts.clock()
    command, by = command_of(name, now, body.reason), Context(identity.owner)
    executed = await asyncio.to_thread(_executed, state.parts.ledger, kind, command, by)
    # Dispatcher and recorder read the view: the answer says that the hold applies, so it waits for the view.
    with contextlib.suppress(ViewBehind):
        await state.positions.reached(("fleet",), executed.position, SEEN_S_MAX)
    if kind == "worker":
        with contextlib.suppress(NatsError, OSError):  # a lost message costs the time to the next announcement
            await state.parts.broker.client.publish(hail_subject(name), HAIL)
    held = None
    if isinstance(executed.state, OnHold):
        held = {"hold": executed.state.hold, "reason": executed.state.reason, "by": identity.owner, "since": now}
        if not executed.decision:  # another request did the same before
            held = await asyncio.to_thread(_held_now, state, kind, name) or held
    return answer({"kind": kind, "name": name, "held": held}, position=executed.position)


def _executed(ledger: Ledger, kind: Kind, command: FleetCommand, by: Context) -> PoolExecuted | WorkerExecuted:
    if kind == "pool":
        return ledger.execute(POOL, pool_stream(command.name), command, by)
    return ledger.execute(WORKER, worker_stream(command.name), command, by)


def _require_name(state: ApiState, kind: Kind, name: str) -> None:
    """Raises `NotFound` for a pool that is not in the catalog, and for an invalid name of a worker."""
    pools = sorted(state.parts.catalog.pools())
    if kind == "pool" and name not in pools:
        raise NotFound("pool", f"{name!r}; there is {', '.join(pools)}")
    if kind == "worker" and (len(name) > NAME_CHARACTERS_MAX or WORKER_NAME.fullmatch(name) is None):
        raise NotFound("worker", repr(name))


def _held_now(state: ApiState, kind: Kind, name: str) -> Json | None:
    with state.parts.database.connection() as connection:
        if kind == "pool":
            return next((_held(row) for row in read_pools(connection, [name])), None)
        return next((_held(row) for row in read_workers(connection) if row.name == name), None)


def _workers(state: ApiState) -> list[Json]:
    with state.parts.database.connection() as connection:
        return [_worker(state, row) for row in read_workers(connection)]


def _worker(state: ApiState, row: WorkerRow) -> Json:
    job = None
    if row.job_id is not None and row.attempt is not None:
        steps = state.progress.latest(row.job_id, row.attempt)
        job = {
            "id": row.job_id,
            "owner": row.job_owner,
            "job_type": row.job_type,
            "pool": row.job_pool,
            "attempt": row.attempt,
            "progress": None if steps is None else {"step": steps.step, "total": steps.total},
            "started_at": row.job_started_at,
        }
    standing, since = _state_of(row)
    return {
        "name": row.name,
        "state": standing,
        "since": since,
        "device": row.device,
        "version": row.version,
        "pools": row.pools or [],
        "models": row.models or [],
        "job": job,
        "held": _held(row),
        "started_at": row.started_at,
        "heard_at": row.heard_at,
    }


def _state_of(row: WorkerRow) -> tuple[str, datetime | None]:
    if not row.is_alive:
        return "away", row.heard_at
    if row.hold == "paused":
        return "paused", row.held_since
    if row.hold == "drained":
        return ("draining", row.held_since) if row.job_id is not None else ("drained", row.idle_since)
    if row.job_id is not None:
        return "busy", row.job_started_at
    return "idle", row.idle_since


def _pools(state: ApiState) -> list[Json]:
    with state.parts.database.connection() as connection:
        rows = read_pools(connection, sorted(state.parts.catalog.pools()))
        jobs = reads.queued_jobs(connection)
    return [_pool(row, jobs.get((row.pool, "waiting"), 0), jobs.get((row.pool, "running"), 0)) for row in rows]


def _pool(row: PoolRow, waiting: int, at_work: int) -> Json:
    if row.hold == "paused":
        state = "paused"
    elif row.hold == "drained":
        state = "draining" if at_work else "drained"
    else:
        state = "open" if row.workers else "no_worker"
    return {
        "pool": row.pool,
        "state": state,
        "workers": row.workers,
        "waiting": waiting,
        "running": at_work,
        "last_seen_at": row.last_seen_at,
        "held": _held(row),
    }


def _held(row: WorkerRow | PoolRow) -> Json | None:
    if row.hold is None:
        return None
    return {"hold": row.hold, "reason": row.hold_reason, "by": row.held_by, "since": row.held_since}
