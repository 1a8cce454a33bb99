"""`POST /v1/enhance`: a prompt made richer for a job type, before anybody submits a job with it."""

import asyncio
import logging
from uuid import uuid4

from fastapi import APIRouter, Request
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from api import schemas
from api.answers import answer
from api.body import read_body
from api.identity import identity_of
from api.openapi import answers, body_and_headers
from api.parts import Running, require_broker, running
from api.submission import (
    Prompt,
)
from domain.enhancement import RULES, enhance
from domain.events import EnhancementMade
from domain.recipe import Kind
from services.ledger import Context
from services.wire import ENHANCE, ENHANCE_S_MAX, EnhanceReply, EnhanceRequest

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])


class EnhanceBody(BaseModel):
    """A prompt, and the job type that it is meant for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Prompt
    job_type: str


@router.post(
    "/v1/enhance",
    response_model=None,
    responses=answers({200: schemas.Enhancement}, 400, 413, 415, 422, 503),
    openapi_extra=body_and_headers(EnhanceBody),
)
async def enhance_prompt(request: Request) -> Response:
    """Make a prompt richer. Nothing is queued: submit a job with the answer, or do not."""
    here = running(request)
    body = await read_body(request, EnhanceBody)
    kind = here.parts.catalog.job_type(body.job_type).kind
    require_broker(here)
    enhanced, enhancer = await _made_richer(here, body.prompt, kind)
    owner, identifier = identity_of(request).owner, uuid4()
    made = EnhancementMade(
        owner=owner, job_type=body.job_type, original=body.prompt, enhanced=enhanced, enhancer=enhancer
    )
    position = await asyncio.to_thread(
        here.parts.ledger.keep_enhancement, identifier, made, here.parts.clock(), Context(actor=owner, owner=owner)
    )
    return answer({"id": identifier} | made.model_dump(exclude={"owner"}), position=position)


async def _made_richer(here: Running, prompt: str, kind: Kind) -> tuple[str, str]:
    """The richer prompt and who made it: a worker with a language model, or the rules where none answers in time."""
    asked = EnhanceRequest(prompt=prompt, kind=kind).model_dump_json().encode()
    try:
        message = await here.parts.broker.client.request(ENHANCE, asked, timeout=ENHANCE_S_MAX)
        reply = EnhanceReply.model_validate_json(message.data)
    except NoRespondersError:
        return enhance(prompt, kind), RULES
    except (NatsError, OSError, ValidationError) as error:
        log.warning("the rules make a prompt richer: no worker answered as it should: %s", error)
        return enhance(prompt, kind), f"{RULES} (no worker answered)"
    return reply.enhanced, reply.enhancer
