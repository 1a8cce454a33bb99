"""Alive, and ready: what supervisors and load balancers ask, without a token."""

import asyncio
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.admin import VIEWS
from api.answers import answer
from api.errors import RETRY_AFTER_S
from api.parts import Running, running
from projections import reads
from services.database import Unavailable

router = APIRouter(tags=["health"])

ANSWER_S_MAX: Final = 2.0
"""Postgres has so long to answer; supervisors ask every few seconds."""

LAG_EVENTS_MAX: Final = 50_000
"""A view further behind shows a past that nobody wants: about a second of a rebuild, minutes of a busy day."""


@router.get("/healthz", response_model=None, openapi_extra={"security": []})
async def alive() -> Response:
    """The process serves."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    response_model=None,
    responses={503: {"description": "Not ready; `reasons` says why.", "content": {"application/json": {}}}},
    openapi_extra={"security": []},
)
async def ready(request: Request) -> Response:
    """Postgres, NATS and the views are usable; else 503 with the reasons."""
    reasons = await _reasons(running(request))
    if reasons:
        return answer({"status": "not_ready", "reasons": reasons}, 503, Retry_After=str(RETRY_AFTER_S))
    return answer({"status": "ready", "reasons": []})


async def _reasons(here: Running) -> list[str]:
    reasons = [] if here.parts.broker.connected else ["NATS cannot be reached."]
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            positions, head = await asyncio.to_thread(_positions, here)
    except TimeoutError:
        return [*reasons, f"Postgres did not answer within {ANSWER_S_MAX:g} s."]
    except Unavailable as error:
        return [*reasons, str(error)]
    for view in VIEWS:
        if view not in positions:
            reasons.append(f"The view {view} was never projected; is the projector running?")
        elif head - positions[view] > LAG_EVENTS_MAX:
            reasons.append(f"The view {view} is {head - positions[view]} events behind.")
    return reasons


def _positions(here: Running) -> tuple[dict[str, int], int]:
    with here.parts.database.connection() as connection:
        return reads.view_positions(connection), reads.ledger_head(connection)
