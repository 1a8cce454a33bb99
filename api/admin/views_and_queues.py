"""For administrators: the progress of the views, rebuilding a view, and the state of the queues."""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_nothing
from api.http.errors import RebuildUnavailable
from api.http.identity import require_admin
from api.http.openapi import answers
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, listed
from api.state import ApiState, state_of
from domain.errors import NotFound
from projections import ALL
from projections.reads import jobs as reads

router = APIRouter(tags=["admin"])

PARKED_SHOWN_MAX = 1_000
"""Maximum parked events in one answer; look at the first ones first."""

VIEWS = tuple(sorted(view.name for view in ALL))


@router.get(
    "/v1/admin/projections",
    response_model=None,
    responses=answers({200: schemas.Page[schemas.ProjectionState]}, 403, 503),
)
async def list_projections(request: Request) -> Response:
    """How far each view has read the ledger, and the events that it could not process."""
    require_admin(request)
    return listed(await asyncio.to_thread(projection_states, state_of(request)))


@router.post(
    "/v1/admin/projections/{name}/rebuild",
    response_model=None,
    responses=answers({200: schemas.RebuiltView}, 403, 404, 409, 503),
)
async def rebuild_projection(request: Request, name: str) -> Response:
    """Build a view again next to the live one and swap them; answers when it is done."""
    require_admin(request)
    await read_nothing(request)
    if name not in VIEWS:
        raise NotFound("view", f"{name!r}; there is {', '.join(VIEWS)}")
    rebuild = state_of(request).parts.rebuild
    if rebuild is None:
        raise RebuildUnavailable
    rebuilt = await asyncio.to_thread(rebuild, name)
    return answer(
        {
            "name": rebuilt.view,
            "position": rebuilt.position,
            "rows": rebuilt.rows,
            "checksum": rebuilt.checksum,
            "same": rebuilt.same,
            "seconds": round(rebuilt.seconds, 3),
            "events_per_s": round(rebuilt.events_per_s),
        }
    )


@router.get(
    "/v1/admin/queues", response_model=None, responses=answers({200: schemas.Page[schemas.QueueState]}, 403, 503)
)
async def list_queues(request: Request) -> Response:
    """Each pool: its backlog now; waits, throughput and error rate over the last hour."""
    require_admin(request)
    state = state_of(request)
    await wait_for_views(request, state.positions, "jobs", "queue")
    return listed(await asyncio.to_thread(_queues, state))


@router.get(
    "/v1/admin/performance",
    response_model=None,
    responses=answers({200: schemas.Page[schemas.PerformanceState]}, 403, 503),
)
async def list_performance(request: Request) -> Response:
    """Each job type with jobs that ended within the last hour: seconds compared with the expected ones, and memory."""
    require_admin(request)
    state = state_of(request)
    await wait_for_views(request, state.positions, "performance")
    return listed(await asyncio.to_thread(_performance, state))


def projection_states(state: ApiState) -> list[dict[str, Any]]:
    """`ProjectionState` of every view; a view that was never projected is at 0. Raises `Unavailable`."""
    with state.parts.database.connection() as connection:
        positions = reads.view_positions(connection)
        head = reads.ledger_head(connection)  # read after the positions: a lag is never negative
        parked = reads.parked(connection, limit=PARKED_SHOWN_MAX)
    return [
        {
            "name": view,
            "position": positions.get(view, 0),
            "head": head,
            "lag": max(0, head - positions.get(view, 0)),
            "parked": [
                {"stream": one.stream_id, "position": one.position, "reason": one.reason, "parked_at": one.parked_at}
                for one in parked
                if one.view == view
            ],
        }
        for view in VIEWS
    ]


def _performance(state: ApiState) -> list[dict[str, Any]]:
    with state.parts.database.connection() as connection:
        return [asdict(row) for row in reads.performance(connection, state.parts.clock())]


def _queues(state: ApiState) -> list[dict[str, Any]]:
    pools = sorted(state.parts.catalog.pools())
    with state.parts.database.connection() as connection:
        rows = reads.queues(connection, pools, state.parts.clock())
    return [
        {
            "pool": row.pool,
            "backlog": row.waiting,
            "running": row.running,
            "oldest_waiting_s": row.oldest_waiting_s,
            "wait_mean_s": row.wait_mean_s,
            "wait_p50_s": row.wait_p50_s,
            "wait_p90_s": row.wait_p90_s,
            "throughput_per_h": row.ended_last_hour,
            "error_rate": row.error_rate,
        }
        for row in rows
    ]
