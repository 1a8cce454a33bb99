"""Liveness and readiness for supervisors and load balancers, without a token."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http import schemas
from api.http.errors import RETRY_AFTER_S
from api.http.responses import answer
from api.state import state_of

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=None, responses={200: {"model": schemas.Alive}}, openapi_extra={"security": []})
async def alive() -> Response:
    """The process serves."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    response_model=None,
    responses={200: {"model": schemas.Readiness}, 503: {"model": schemas.Readiness}},
    openapi_extra={"security": []},
)
async def ready(request: Request) -> Response:
    """Whether the installation can be used; else 503 with the reasons.

    With the administrator's token, `findings` lists what else needs attention, each with a remedy.
    """
    found = await state_of(request).watch.findings()
    reasons = [finding.sentence for finding in found if finding.severity == "error"]
    document: dict[str, Any] = {"status": "not_ready" if reasons else "ready", "reasons": reasons}
    if "darkroom.identity" in request.scope:
        document["findings"] = [finding.document() for finding in found]
    return answer(document, 503, Retry_After=str(RETRY_AFTER_S)) if reasons else answer(document)
