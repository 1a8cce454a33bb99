"""Event streams under everything at once: clients that vanish and resume anywhere, two APIs, cut connections."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.app import Parts
from api.events import feed as feeds
from api.events.feed import Feed, Frame, Subscription
from api.http.idempotency import asked_by
from api.jobs.draft import draft_of
from api.jobs.submission import submission_of
from domain.commands import JobCommand, ReportAssetCompleted, StartAttempt
from domain.errors import Refused
from services import users
from services.database import Database, Unavailable
from services.ledger import JOB, Context, Ledger
from services.messaging.broker import Broker
from services.views.owned_views import OwnedViews, logging_in_as_role
from tests.api.conftest import serving
from tests.api.serving import AServer, body, completed_with, picture, until
from tests.api.streaming import SILENCE_S_MAX, Client, Session, holds, opened, stalled, told
from tests.conftest import Clock

OWNERS = ("ada", "bob", "cyd")
CLIENTS_OF_EACH = 5
CHAOS_S = 10.0
"""How long jobs flow and connections are cut."""

END_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
order by random() limit %s
"""


@dataclass
class Flow:
    """Jobs of every owner, submitted, started and ended in any order, whatever happens to Postgres."""

    ledger: Ledger
    parts: Parts
    clock: Clock
    chance: random.Random
    running: list[tuple[UUID, str]] = field(default_factory=list)

    def step(self) -> None:
        """One or two commits. What an outage kept from the ledger is as if it had never been asked for."""
        with suppress(Unavailable, Refused):
            if self.running and self.chance.random() < 0.5:
                job_id, owner = self.running.pop(self.chance.randrange(len(self.running)))
                self._execute(job_id, owner, StartAttempt(1, "gpu-1", self.clock.tick()))
                done = completed_with(picture(0), 1)
                self._execute(job_id, owner, ReportAssetCompleted(0, done, self.clock.tick()))
            else:
                self.submit(self.chance.choice(OWNERS))

    def submit(self, owner: str, **changes: Any) -> None:
        """A job."""
        asked = asked_by(owner, Headers({}), self.clock.tick())
        command = submission_of(draft_of(body(**{"quantity": 1, **changes})), asked, self.parts.catalog)
        self._execute(command.job_id, owner, command)
        self.running.append((command.job_id, owner))

    def _execute(self, job_id: UUID, owner: str, command: JobCommand) -> None:
        self.ledger.execute(JOB, job_id, command, Context("test", owner))


@pytest.fixture
def keys(database: Database) -> Mapping[str, str]:
    """Each owner's API key."""
    with database.connection() as connection:
        return {owner: users.add(connection, owner).key for owner in OWNERS}


@pytest.fixture
def flow(ledger: Ledger, parts: Parts, clock: Clock) -> Flow:
    """Jobs, the same ones each time."""
    return Flow(ledger, parts, clock, random.Random(11))


@pytest_asyncio.fixture
async def other_server(parts: Parts, dsn: str, nats_url: str) -> AsyncIterator[AServer]:
    """A second API on the same ledger, with connections of its own."""
    broker = Broker(nats_url, "test-api-2")
    await broker.open()
    await broker.hear_wakes()
    with Database(dsn) as database, OwnedViews(logging_in_as_role(dsn)) as views:
        async with serving(replace(parts, broker=broker, database=database, views=views)) as served:
            yield served
    await broker.close()


async def test_whoever_resumes_anywhere_sees_exactly_the_ledgers_sequence(
    server: AServer,
    other_server: AServer,
    flow: Flow,
    keys: Mapping[str, str],
    project: Callable[[], None],
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifteen clients of three owners, on two servers, while events flow and Postgres's connections are cut."""
    monkeypatch.setattr("api.events.stream.PAGE_EVENTS", 7)
    monkeypatch.setattr("api.events.stream.OUTAGE_PAUSE_S", 0.05)
    monkeypatch.setattr("api.events.stream.COMMENT_S", 0.5)
    monkeypatch.setattr(feeds, "QUEUE_FRAMES_MAX", 20)
    chance = flow.chance
    clients = [
        Client(owner, keys[owner], [server, other_server], flow.ledger.head, random.Random(chance.random()))
        for owner in OWNERS
        for _ in range(CLIENTS_OF_EACH)
    ]
    over, still = asyncio.Event(), asyncio.Event()
    flowing = asyncio.create_task(_flow(flow, over))
    projecting = asyncio.create_task(_project(project, still))
    cutting = asyncio.create_task(_cut(dsn, chance, over))
    try:
        following = [asyncio.create_task(client.until(over)) for client in clients]
        await asyncio.sleep(CHAOS_S)
        over.set()
        await asyncio.gather(flowing, *following)
        cuts = await cutting
        expected = {owner: told(flow.ledger, owner) for owner in OWNERS}
        await asyncio.gather(*(client.finish(expected[client.owner][-1]["position"]) for client in clients))
    finally:
        over.set()
        still.set()
        await asyncio.gather(flowing, projecting, cutting)
    for client in clients:
        for session in client.sessions:
            holds(session, expected[session.owner])
    sessions = [session for client in clients for session in client.sessions]
    assert cuts > 5
    assert len(sessions) > 5 * len(clients)
    assert sum(1 for session in sessions if session.after is None and session.ids) > 0
    assert sum(1 for session in sessions if session.after == 0 and session.ids) > len(clients)


async def _flow(flow: Flow, over: asyncio.Event) -> None:
    while not over.is_set():
        await asyncio.to_thread(flow.step)
        await asyncio.sleep(flow.chance.choice([0, 0, 0.02]))


async def _project(project: Callable[[], None], over: asyncio.Event) -> None:
    while not over.is_set():
        with suppress(Unavailable):
            await asyncio.to_thread(project)
        await asyncio.sleep(0.02)


async def _cut(dsn: str, chance: random.Random, over: asyncio.Event) -> int:
    """Cut connections every now and then, some or all at once; how many."""
    cut = 0
    while not over.is_set():
        cut += await asyncio.to_thread(_cut_some, dsn, chance.choice([1, 3, 100]))
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.1, 1.0)):
                await over.wait()
    return cut


def _cut_some(dsn: str, number: int) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return len(connection.execute(END_OTHERS, (number,)).fetchall())


async def test_clients_that_do_not_read_hold_little_and_hold_up_nobody(
    server: AServer, flow: Flow, keys: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commit to client, with nobody else there and with twenty who are sent a megabyte a second and read none of it."""
    monkeypatch.setattr("api.events.stream.SEND_S_MAX", 60.0)
    feed: Feed = server.app.state.running.feed
    monkeypatch.setattr(feeds, "QUEUE_BYTES_MAX", 6 * 1024 * 1024)  # far above what may come in one reading
    alone: list[float] = []
    beside: list[float] = []
    held: list[int] = []
    session = Session("ada", None)
    async with opened(server, keys["ada"], session) as stream:
        assert stream is not None
        for _ in range(2):
            await _measure(flow, stream, session, alone)
            with stalled(server, [keys["bob"]] * STALLED):
                await until(lambda: len(feed._subscriptions) == 1 + STALLED)
                others = [one for one in feed._subscriptions if one.owner == "bob"]
                while not all(one.lost for one in others):  # until no buffer on the way takes any more
                    await asyncio.to_thread(flow.submit, "bob", prompt=LONG, negative_prompt=LONG)
                    held += [one.queued[1] for one in others]
                await _measure(flow, stream, session, beside)
                assert len(feed._subscriptions) == 1 + STALLED
            await until(lambda: len(feed._subscriptions) == 1)
    assert 0 < max(held) <= feeds.QUEUE_BYTES_MAX
    assert median(beside) < 3 * median(alone) + 0.02


STALLED = 20
LONG = "\N{WATER WAVE}" * 10_000


async def _measure(flow: Flow, stream: Any, session: Session, taken_s: list[float]) -> None:
    """Seconds from a command of ada to its event at her client, while bob's long events keep coming as well."""
    reader, wire = stream
    for _ in range(20):
        await asyncio.to_thread(flow.submit, "bob", prompt=LONG, negative_prompt=LONG)
        began, heard = time.perf_counter(), len(session.ids) + 2
        submitting = asyncio.create_task(asyncio.to_thread(flow.submit, "ada"))
        async with asyncio.timeout(SILENCE_S_MAX):
            while len(session.ids) < heard:
                wire.feed(await reader.read(65536))
        taken_s.append(time.perf_counter() - began)
        await submitting


async def test_twenty_that_do_not_read_are_cut_off_within_bounds(
    server: AServer, flow: Flow, keys: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.stream.SEND_S_MAX", 0.5)
    feed: Feed = server.app.state.running.feed
    with stalled(server, [keys["bob"]] * STALLED):
        await until(lambda: len(feed._subscriptions) == STALLED)
        async with asyncio.timeout(60):
            while len(feed._subscriptions):
                await asyncio.to_thread(flow.submit, "bob", prompt=LONG, negative_prompt=LONG)
        await until(lambda: not server.connections)  # and nothing is kept for them until they read


@given(st.lists(st.one_of(st.integers(1, 200), st.none(), st.just(-1)), max_size=60), st.integers(1, 300))
def test_what_waits_for_a_client_is_bounded_and_in_order(steps: list[int | None], chunk: int) -> None:
    """Frames of so many bytes come (a tenth of them progress), are taken (None), or the client starts again (-1)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "QUEUE_FRAMES_MAX", 8)
        patch.setattr(feeds, "QUEUE_BYTES_MAX", 500)
        subscription = Subscription("ada", 0)
        position, expected = 0, 1
        for step in steps:
            if step is None:
                if subscription.queued[0]:
                    taken = asyncio.run(subscription.take(1.0, chunk))
                    assert len(taken) == 1 or sum(len(frame.content) for frame in taken) <= chunk
                    positions = [frame.position for frame in taken if frame.position is not None]
                    assert positions == list(range(expected, expected + len(positions)))
                    expected += len(positions)
            elif step == -1:
                subscription.restart(position)
                expected = position + 1
            else:
                is_progress = step % 10 == 0
                position += not is_progress
                subscription.put(Frame(None if is_progress else position, b"x" * step))
            frames, total = subscription.queued
            assert frames <= 8
            assert total <= 500
            assert (frames == 0) == (total == 0)
            assert not (subscription.lost and frames)
