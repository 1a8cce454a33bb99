"""How a service follows the ledger: it steps whenever the ledger grew, and waits outages out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from nats.errors import Error as NatsError

from services.broker import Broker
from services.database import Unavailable

log = logging.getLogger(__name__)


STEP_S_MIN: Final = 0.02
"""Between the beginnings of two looks at the ledger. On a busy one several commits then share a look, whose round trips
cost as much for one event as for many; a lonely event is not held up."""


class OutOfStep(Exception):
    """What follows the ledger cannot go on as things are. It is said once, and tried again."""

    code = "out_of_step"


async def follow(
    who: str, step: Callable[[], Awaitable[int]], broker: Broker, stop: asyncio.Event, *, full: int = 1
) -> None:
    """Step until there is nothing left to do, then wait for the ledger to grow; until `stop`.

    `step` says how much it did; less than `full` was all there was. An outage of Postgres or NATS is logged once and
    waited out.
    """
    follower = broker.follower()
    trouble = ""
    while not stop.is_set():
        began = time.monotonic()
        try:
            if broker.connected:
                while await step() >= full and not stop.is_set():
                    pass
            trouble = ""
        except (Unavailable, NatsError, OSError, TimeoutError, OutOfStep) as error:
            if str(error) != trouble:
                log.warning("the %s waits: %s", who, error)
            trouble = str(error)
        await asyncio.sleep(began + STEP_S_MIN - time.monotonic())
        await follower.woken()
