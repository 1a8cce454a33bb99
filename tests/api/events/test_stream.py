"""Event streams: from any position, each event once, live or missed; and nobody waits for a slow client."""

import asyncio
import random
import socket
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.events import feed as feeds
from api.events.feed import Feed
from api.http.read_your_writes import ViewPositions
from domain.commands import StartAttempt
from domain.recipes.recipe import asset_id
from services import users
from services.database import Database
from services.ledger import Ledger
from services.messaging.wire import Progress, progress_subject
from tests.api.serving import TOKEN, AServer, Site, until


async def test_a_stream_begins_now_and_says_what_history_says(site: Site, server: AServer) -> None:
    await site.submit()
    async with server.events() as events:
        job = await site.finished(quantity=1)
        seen = await events.until(site.ledger.head())
    history = (await site.get(f"/v1/jobs/{job['id']}/history"))["results"]
    assert [data for _, _, data in seen] == history
    assert [(position, kind) for position, kind, _ in seen] == [(item["position"], item["type"]) for item in history]


async def test_a_stream_resumes_from_any_position_with_nothing_lost_or_doubled(site: Site, server: AServer) -> None:
    """Clients come and go at random positions while events keep coming."""
    chance = random.Random(7)
    for _ in range(3):
        await site.finished(quantity=1)
    done = asyncio.Event()

    async def keep_submitting() -> None:
        while not done.is_set():
            await site.submit(quantity=1)
            await asyncio.sleep(0)

    async def follow(after: int) -> None:
        position = after
        for _ in range(4):
            async with server.events(position) as events:
                for _ in range(chance.randint(1, 12)):
                    got, _, data = await events.take()
                    assert got == data["position"] == position + 1
                    position = got

    submitting = asyncio.create_task(keep_submitting())
    projecting = asyncio.create_task(_keep_projecting(site, done))
    try:
        await asyncio.gather(*(follow(chance.randint(0, 12)) for _ in range(6)))
    finally:
        done.set()
        await asyncio.gather(submitting, projecting)


async def _keep_projecting(site: Site, done: asyncio.Event) -> None:
    while not done.is_set():
        await asyncio.to_thread(site.project)
        await asyncio.sleep(0.005)


async def test_a_backlog_of_several_pages_comes_whole(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.stream.PAGE_EVENTS", 4)
    for _ in range(5):
        await site.submit()
    await asyncio.to_thread(site.project)
    async with server.events(3) as events:
        assert [position for position, _, _ in await events.until(20)] == list(range(4, 21))


async def test_a_client_ahead_of_this_process_hears_nothing_twice(site: Site, server: AServer) -> None:
    await site.submit(quantity=1)
    head = site.ledger.head()
    async with server.events(head) as events:
        await site.submit(quantity=1)
        assert [position for position, _, _ in await events.until(head + 2)] == [head + 1, head + 2]


async def test_a_position_that_does_not_exist_is_refused(site: Site, server: AServer) -> None:
    for asked in ("99", "-1", "x"):
        response = await site.http.get("/v1/events", headers={"Last-Event-ID": asked})
        assert (response.status_code, response.json()["errors"][0]["path"]) == (422, "Last-Event-ID")
    assert (await site.http.get("/v1/events", params={"last_event_id": "99"})).status_code == 422


async def test_progress_comes_without_an_id(site: Site, server: AServer) -> None:
    job = await site.submit()
    job_id = UUID(job["id"])
    await site.start(job)
    other = await asyncio.to_thread(site.submit_as, "ada")
    await site.report({"id": str(other)}, StartAttempt(1, "gpu-2", site.clock.tick()))
    await asyncio.to_thread(site.project)
    async with server.events() as events:
        told = (("gpu-2", other, 1, 1), ("gpu-2", job_id, 1, 2), ("gpu-1", job_id, 2, 3), ("gpu-1", job_id, 1, 4))
        for worker, about, attempt, step in told:
            progress = Progress(job_id=about, attempt=attempt, step=step, total=15)
            await site.parts.broker.client.publish(progress_subject(worker), progress.model_dump_json().encode())
        position, kind, data = await events.take()
    assert (position, kind) == (None, "progress"), (
        "of the owner's job, from the worker that has its attempt, and no other"
    )
    assert data == {"job_id": job["id"], "attempt": 1, "step": 4, "total": 15}


async def test_a_silent_stream_is_kept_open_by_comments(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.stream.COMMENT_S", 0.05)
    async with server.events() as events:
        taking = asyncio.create_task(events.take())
        await until(lambda: events.comments >= 2)
        await site.submit()
        assert (await taking)[1] == "job.queued"


async def test_a_client_that_does_not_read_is_cut_off_and_others_are_not(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.stream.SEND_S_MAX", 0.3)
    monkeypatch.setattr("api.events.stream.COMMENT_S", 0.2)
    feed: Feed = server.app.state.running.feed
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        await until(lambda: len(feed._subscriptions) == 1)
        async with server.events() as events:
            await until(lambda: len(feed._subscriptions) == 2)
            for _ in range(200):  # 80 kB each, until the kernel's buffers between are full
                await site.submit(prompt="\N{WATER WAVE}" * 10_000, negative_prompt="\N{FOG}" * 10_000, quantity=1)
                await events.until(site.ledger.head())  # the other one hears everything at once
                if len(feed._subscriptions) == 1:
                    break
            else:
                await until(lambda: len(feed._subscriptions) == 1)


async def test_a_queue_that_overflows_ends_the_stream(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "QUEUE_FRAMES_MAX", 3)
    async with server.events() as events:
        await site.submit(quantity=6)  # seven events at once
        with pytest.raises(StopAsyncIteration):
            await events.take()


async def test_a_backlog_outrun_by_the_feed_is_read_from_the_view(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "QUEUE_FRAMES_MAX", 3)
    monkeypatch.setattr("api.events.stream.OUTAGE_PAUSE_S", 0.01)
    monkeypatch.setattr(ViewPositions.reached, "__defaults__", (0.05,))
    await site.submit()
    feed: Feed = server.app.state.running.feed
    await until(lambda: feed._position == 4)
    async with server.events(0) as events:  # no view has these yet: the stream waits for them
        await until(lambda: len(feed._subscriptions) == 1)
        await site.submit(quantity=6)
        await until(lambda: all(one.lost or one.since > 4 for one in feed._subscriptions))  # or it began again already
        await asyncio.to_thread(site.project)
        assert [position for position, _, _ in await events.until(11)] == list(range(1, 12))


async def test_streams_outlive_an_outage_of_postgres(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.read

    def gone(*_: object) -> list[object]:
        with Database("host=127.0.0.1 port=1 dbname=none") as nowhere, nowhere.connection():
            return []

    monkeypatch.setattr("services.database.CHECKOUT_S_MAX", 0.1)
    async with server.events() as events:
        monkeypatch.setattr(Ledger, "read", gone)
        await site.submit(quantity=1)
        await site.submit(quantity=1)
        monkeypatch.setattr(Ledger, "read", real)
        assert [position for position, _, _ in await events.until(4)] == [1, 2, 3, 4]


async def test_streams_outlive_what_nobody_foresaw(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = Ledger.read, asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(*_: object) -> list[object]:
        loop.call_soon_threadsafe(failed.set)
        raise RuntimeError("a fault of the program")

    async with server.events() as events:
        monkeypatch.setattr(Ledger, "read", broken)
        await site.submit(quantity=1)
        await failed.wait()
        monkeypatch.setattr(Ledger, "read", real)
        assert [position for position, _, _ in await events.until(2)] == [1, 2]


async def test_an_event_that_cannot_be_shown_holds_up_no_stream(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = feeds.history_item_of_event

    def broken(event: Any) -> Any:
        if event.position == 2:
            raise RuntimeError("a fault of the program")
        return shown(event)

    monkeypatch.setattr(feeds, "history_item_of_event", broken)
    async with server.events() as events:
        await site.submit(quantity=3)
        assert [position for position, _, _ in await events.until(4)] == [1, 3, 4]


async def test_nobody_takes_every_place(
    site: Site, server: AServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "CLIENTS_OF_ONE_MAX", 2)
    with database.connection() as connection:
        key = users.add(connection, "ada").key
    async with server.events(token=key), server.events(token=key):
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            refused = await client.get("/v1/events", headers={"Authorization": f"Bearer {key}"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        async with server.events():
            pass


async def test_a_stopping_server_lets_its_streams_go(site: Site, server: AServer) -> None:
    async with server.events() as events:
        ended = asyncio.create_task(events.take())
        await asyncio.sleep(0)
        async with asyncio.timeout(2.5):  # uvicorn's own patience is 3 s
            await server.stop()
        with pytest.raises((StopAsyncIteration, httpx.RemoteProtocolError)):
            await ended


async def test_a_stream_carries_what_its_owner_owns(site: Site, server: AServer) -> None:
    async with server.events() as events:
        theirs = await asyncio.to_thread(site.submit_as, "ada")
        mine = UUID((await site.submit(quantity=1))["id"])
        seen = {UUID(data["stream"]) for _, _, data in await events.until(site.ledger.head())}
    assert seen == {mine, asset_id(mine, 0)}
    assert theirs not in seen
