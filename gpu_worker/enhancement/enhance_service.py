"""Answers the API's requests for enhanced prompts between jobs, in the render thread, one at a time."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from gpu_worker.enhancement.enhancing import Enhancing
from services.messaging.wire import ENHANCE, ENHANCE_S_MAX, ENHANCERS, EnhanceReply, EnhanceRequest

LOG = logging.getLogger("darkroom.worker")

WAITING_MAX: Final = 16
"""Maximum number of requests that wait for the thread; others get no answer, and the API uses the rules."""


class Answering:
    """Takes a share of the requests if the worker has a language model."""

    def __init__(self, connection: Client, enhancing: Enhancing, rendering: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._enhancing = enhancing
        self._rendering = rendering
        self._answers: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Subscribe to requests until the connection closes; does nothing without a language model."""
        if self._enhancing.source is not None:
            await self._connection.subscribe(ENHANCE, ENHANCERS, self._hear)
            await self._connection.flush()

    async def _hear(self, message: Msg) -> None:
        if len(self._answers) < WAITING_MAX:
            task = asyncio.create_task(self._answer(message))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            asked = EnhanceRequest.model_validate_json(message.data)
        except ValidationError as error:
            LOG.error("dropped a prompt that cannot be read: %s", error.errors(include_input=False)[0]["msg"])  # noqa: TRY400
            return
        making = self._rendering.submit(self._enhancing.enhance, asked.prompt, asked.kind)
        try:
            async with asyncio.timeout(ENHANCE_S_MAX):
                made = await asyncio.wrap_future(making)
            reply = EnhanceReply(enhanced=made.text, enhancer=made.enhancer)
            await message.respond(reply.model_dump_json().encode())
        except TimeoutError:  # a request that has not begun is canceled: the API no longer waits for it
            LOG.info("a prompt was not made richer in time: the worker is busy")
        except nats.errors.Error as error:
            LOG.warning("a richer prompt was lost, the API goes by the rules: %s", error)
