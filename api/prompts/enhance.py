"""`POST /v1/enhance`: enhance a prompt for a job type before a job is submitted."""

import asyncio
import logging
from uuid import UUID

from fastapi import APIRouter, Request
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_body
from api.http.bodies.texts import Prompt
from api.http.idempotency import asked_in, id_under_key
from api.http.openapi import answers, body_and_headers
from api.http.responses import answer
from api.state import ApiState, require_broker, state_of
from domain.envelope import Recorded
from domain.errors import IdempotencyKeyReused
from domain.events import EnhancementMade
from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from services.ledger import Context
from services.ledger.commits import Conflict
from services.messaging.wire import ENHANCE, ENHANCE_S_MAX, EnhanceReply, EnhanceRequest

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])


Made = tuple[EnhancementMade, int]
"""An enhanced prompt, and its position."""


class EnhanceBody(BaseModel):
    """A prompt, and the job type that it is for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Prompt
    job_type: str


@router.post(
    "/v1/enhance",
    response_model=None,
    responses=answers({200: schemas.Enhancement}, 400, 413, 415, 422, 503),
    openapi_extra=body_and_headers(EnhanceBody, "Idempotency-Key"),
)
async def enhance_prompt(request: Request) -> Response:
    """Enhance a prompt. Nothing is queued: submit a job with the answer, or do not.

    A repeat with the same Idempotency-Key and body gets the same answer.
    """
    state = state_of(request)
    asked = asked_in(request)
    body = await read_body(request, EnhanceBody)
    kind = state.parts.catalog.job_type(body.job_type).kind
    require_broker(state)
    identifier = id_under_key(asked.owner, f"enhance {asked.key}")  # no key has a space: no job has this id
    before = None if asked.key_is_new else await asyncio.to_thread(_made_before, state, identifier, body)
    if before is None:
        enhanced, enhancer = await _made_richer(state, body.prompt, kind)
        made = EnhancementMade(
            owner=asked.owner, job_type=body.job_type, original=body.prompt, enhanced=enhanced, enhancer=enhancer
        )
        before = await asyncio.to_thread(_keep, state, identifier, made, body)
    made, position = before
    return answer({"id": identifier} | made.model_dump(exclude={"owner"}), position=position)


def _keep(state: ApiState, identifier: UUID, made: EnhancementMade, body: EnhanceBody) -> Made:
    """Append it; if a concurrent request used the same key, return that one's answer.

    Raises `IdempotencyKeyReused`.
    """
    try:
        context = Context(actor=made.owner, owner=made.owner)
        return made, state.parts.ledger.keep_enhancement(identifier, made, state.parts.clock(), context)
    except Conflict:
        before = _made_before(state, identifier, body)
        if before is None:  # the key names something that cannot be read as an enhancement
            raise IdempotencyKeyReused from None
        return before


def _made_before(state: ApiState, identifier: UUID, body: EnhanceBody) -> Made | None:
    """The earlier answer under this key, and its position. Raises `IdempotencyKeyReused`."""
    for event in state.parts.ledger.stream(identifier):
        if isinstance(event, Recorded) and isinstance(event.event, EnhancementMade):
            if (event.event.original, event.event.job_type) != (body.prompt, body.job_type):
                raise IdempotencyKeyReused
            return event.event, event.position
    return None


async def _made_richer(state: ApiState, prompt: str, kind: Kind) -> tuple[str, str]:
    """The enhanced prompt and its enhancer: a worker with a language model, or the rules if none answers in time."""
    asked = EnhanceRequest(prompt=prompt, kind=kind).model_dump_json().encode()
    try:
        message = await state.parts.broker.client.request(ENHANCE, asked, timeout=ENHANCE_S_MAX)
        reply = EnhanceReply.model_validate_json(message.data)
    except NoRespondersError:
        return enhance(prompt, kind), RULES
    except (NatsError, OSError, ValidationError) as error:
        log.warning("the rules make a prompt richer: no worker answered as it should: %s", error)
        return enhance(prompt, kind), f"{RULES} (no worker answered)"
    return reply.enhanced, reply.enhancer
