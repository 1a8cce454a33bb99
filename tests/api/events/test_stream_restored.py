"""Event streams after a restore of an older backup: no client is fed other events under ids that it knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import Parts
from api.events.feed import Feed, StreamsEnded
from services.restore.epochs import Epoch, Epochs, event_id_of
from tests.api.serving import TOKEN, AServer, Site

Seen = list[tuple[str | None, str]]


@asynccontextmanager
async def stream(server: AServer, after: str | None) -> AsyncIterator[AsyncIterator[tuple[str | None, str]]]:
    """Ids and types as they come."""
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({} if after is None else {"Last-Event-ID": after})

    async def events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str | None, str]]:
        fields: dict[str, str] = {}
        async for line in lines:
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line and "data" in fields:
                yield fields.get("id"), fields["event"]
            fields = fields if line else {}

    async with (
        httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client,
        client.stream("GET", "/v1/events", headers=headers) as response,
    ):
        assert response.status_code == 200
        yield events(response.aiter_lines())


async def take(events: AsyncIterator[tuple[str | None, str]], count: int) -> Seen:
    async with asyncio.timeout(120):
        return [await anext(events) for _ in range(count)]


async def begin_epoch(dsn: str, from_position: int) -> str:
    """As a restore does; what stands for the epoch in ids."""

    def begin() -> str:
        with psycopg.connect(dsn) as connection:
            insert = "insert into epochs (number, from_position, reason) values (1, %s, 'merged') returning epoch"
            ((epoch,),) = connection.execute(insert, (from_position,)).fetchall()
            return str(epoch.hex[:8])

    return await asyncio.to_thread(begin)


async def test_a_client_with_a_lost_id_learns_it_and_resumes_where_the_histories_part(
    site: Site, server: AServer, dsn: str
) -> None:
    for _ in range(3):
        await site.submit(quantity=1)
    await asyncio.to_thread(site.project)
    epoch = await begin_epoch(dsn, 4)
    async with stream(server, "6") as events:
        seen = await take(events, 4)
    assert seen == [
        ("3", "restored"),
        (f"{epoch}-4", "asset.reserved"),
        (f"{epoch}-5", "job.queued"),
        (f"{epoch}-6", "asset.reserved"),
    ]


@pytest.mark.parametrize("after", ["2", "EPOCH-4"])
async def test_a_client_without_a_lost_id_learns_nothing(site: Site, server: AServer, dsn: str, after: str) -> None:
    for _ in range(3):
        await site.submit(quantity=1)
    await asyncio.to_thread(site.project)
    epoch = await begin_epoch(dsn, 4)
    async with stream(server, after.replace("EPOCH", epoch)) as events:
        ids = [seen for seen, _ in await take(events, 2)]
        await site.submit(quantity=1)  # live ones have the same ids
        ids += [seen for seen, _ in await take(events, 2)]
    expected = (
        ["3", f"{epoch}-4", f"{epoch}-5", f"{epoch}-6"] if after == "2" else [f"{epoch}-{n}" for n in range(5, 9)]
    )
    assert ids == expected


async def test_a_live_stream_ends_when_the_ledger_turns_out_to_be_another(
    site: Site, server: AServer, dsn: str
) -> None:
    await site.submit(quantity=1)
    async with stream(server, None) as events:
        await site.submit(quantity=1)
        assert [seen for seen, _ in await take(events, 2)] == ["3", "4"]

        def replace() -> None:
            with psycopg.connect(dsn) as connection:
                connection.execute("set session_replication_role = replica")
                connection.execute("update ledger set originator_id = gen_random_uuid() where notification_id = 4")

        await asyncio.to_thread(replace)
        with pytest.raises(StopAsyncIteration):
            await take(events, 1)


async def test_a_stream_that_has_heard_nothing_yet_ends_as_well(site: Site, server: AServer, dsn: str) -> None:
    """Else it would be silent until the ledger is as long again, and then go on in the middle."""
    for _ in range(2):
        await site.submit(quantity=1)
    async with stream(server, None) as events:

        def put_back() -> None:
            with psycopg.connect(dsn) as connection:
                connection.execute("set session_replication_role = replica")
                connection.execute("delete from ledger where notification_id > 2")
                connection.execute("delete from ledger_commits where last_position > 2")

        await asyncio.to_thread(put_back)
        with pytest.raises(StopAsyncIteration):
            await take(events, 1)


async def test_a_ledger_shorter_than_where_a_stream_starts_ends_it(site: Site) -> None:
    """The feed had not read as far as the stream began when the ledger was put back."""
    await site.submit(quantity=1)
    feed = Feed(site.ledger)
    await feed._step()
    subscription = await feed.subscribe("admin")
    subscription.starts_after = 4  # as it was before
    await feed._step()
    with pytest.raises(StreamsEnded):
        await subscription.take(0.01, 1_000)
    feed.unsubscribe(subscription)
    other = await feed.subscribe("admin")
    other.starts_after = 2
    await feed._step()
    assert await other.take(0.01, 1_000) == []
    feed.unsubscribe(other)


async def test_who_knows_more_than_a_ledger_that_was_put_back_is_asked_to_come_again(
    site: Site, server: AServer, parts: Parts
) -> None:
    await site.submit(quantity=1)
    compared = [True]
    object.__setattr__(parts, "is_compared", lambda: compared[0])

    async def resumed() -> tuple[int, str]:
        async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {TOKEN}", "Last-Event-ID": "99"}
            answer = await client.get("/v1/events", headers=headers)
            return answer.status_code, answer.json()["code"]

    assert await resumed() == (422, "invalid_input")  # nobody can have heard that
    compared[0] = False
    assert await resumed() == (503, "unavailable")
    compared[0] = True
    await asyncio.to_thread(site.ledger.stop, "The ledger lacks something.")
    assert await resumed() == (503, "ledger_stopped")


@given(parts=st.lists(st.integers(1, 50), max_size=4), position=st.integers(0, 60), number=st.integers(0, 4))
def test_an_id_is_good_up_to_the_first_place_where_a_later_epoch_parts(
    parts: list[int], position: int, number: int
) -> None:
    epochs = [Epoch(uuid4(), at, start) for at, start in enumerate([1, *parts])]
    chosen = epochs[min(number, len(parts))]
    shared = Epochs(epochs).shared_with(chosen.short)
    later = [epoch.from_position for epoch in epochs if epoch.number > chosen.number]
    assert shared == (min(later) - 1 if later else None)
    label = Epochs(epochs).label(position).decode()
    assert (event_id_of(label) or ("", -1))[1] == position
    named = next((epoch for epoch in epochs if epoch.short == (event_id_of(label) or ("", 0))[0]), None)
    assert named is not None
    assert named.number == 0 or named.from_position <= position
