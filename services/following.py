"""How a service follows the ledger: it steps whenever the ledger grew, and waits outages out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats.errors import Error as NatsError

from services.broker import Broker
from services.database import Unavailable

log = logging.getLogger(__name__)


class OutOfStep(Exception):
    """What follows the ledger cannot go on as things are. It is said once, and tried again."""

    code = "out_of_step"


async def follow(who: str, step: Callable[[], Awaitable[int]], broker: Broker, stop: asyncio.Event) -> None:
    """Step until there is nothing left to do, then wait for the ledger to grow; until `stop`.

    `step` says how much it did. An outage of Postgres or NATS is logged once and waited out.
    """
    follower = broker.follower()
    trouble = ""
    while not stop.is_set():
        try:
            if broker.connected:
                while await step() and not stop.is_set():
                    pass
            trouble = ""
        except (Unavailable, NatsError, OSError, TimeoutError, OutOfStep) as error:
            if str(error) != trouble:
                log.warning("the %s waits: %s", who, error)
            trouble = str(error)
        await follower.woken()
