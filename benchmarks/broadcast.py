"""Events a second that the relay brings into JetStream, from a ledger that is there."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

import nats
from nats.js.api import StreamConfig

from benchmarks.contest import Contest, Row, Target
from benchmarks.histories import fill
from benchmarks.recorders import our_recorder
from benchmarks.stage import Stage
from benchmarks.system import forget_streams
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.messaging.relay import BATCH_EVENTS_MAX, Relay

T = TypeVar("T")

EVENTS: Final = 24_000
QUICK_EVENTS: Final = 2_400
BARE: Final = "BARE"
PAYLOAD: Final = b"x" * 640
"""As large as an event with its envelope is on average, as the relay sends it."""


@contextmanager
def contest(stage: Stage) -> Iterator[Contest]:
    """Each side begins with an empty stream."""
    with ExitStack() as undo:
        dsn = undo.enter_context(stage.database(migrated=True))
        recorder = undo.enter_context(our_recorder(dsn))
        events = fill(recorder, QUICK_EVENTS if stage.quick else EVENTS)
        ledger = undo.enter_context(Ledger(recorder))
        url = stage.servers.nats_url
        yield Contest(ours=lambda: _alone(url, relayed, ledger), peer=lambda: _alone(url, published, events))
        forget_streams(url)


def _alone(url: str, measure: Callable[[str, T], Coroutine[Any, Any, float]], given: T) -> float:
    forget_streams(url)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, measure(url, given)).result()


async def relayed(url: str, ledger: Ledger) -> float:
    """The relay, step by step."""
    broker = Broker(url, "benchmark")
    await broker.open()
    while not broker.connected:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    relay = Relay(ledger, broker)
    began = time.perf_counter()
    events = 0
    while step := await relay.step():
        events += step
    taken_s = time.perf_counter() - began
    await broker.close()
    return events / taken_s


async def published(url: str, events: int) -> float:
    """The client as it is: as many messages at a time, and the last one's answer awaited."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    await jetstream.add_stream(StreamConfig(name=BARE, subjects=["bare.>"]))
    began = time.perf_counter()
    for number in range(1, events + 1):
        if number % BATCH_EVENTS_MAX and number < events:
            await client.publish("bare.event", PAYLOAD)
        else:
            await jetstream.publish("bare.event", PAYLOAD)
    taken_s = time.perf_counter() - began
    await client.close()
    return events / taken_s


ROWS = [
    Row(
        "relay",
        "events/s into JetStream, default sync_interval",
        "nats-py, no ledger, no order asked for",
        Target("ours", "≥", 10_000),
        contest,
    ),
]
