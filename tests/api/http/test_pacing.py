"""Work that keeps a processor busy takes turns, and what is refused waits in line."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from api.app import Parts
from api.http.errors import RateLimited
from api.http.limits import pacing
from api.http.limits.open_connections import Crowd
from api.http.limits.pacing import FREE_S, OTHERS_S, REST_S_MAX, SHARE_MAX, Company, Pacing
from api.http.limits.rates import WaitingLine
from api.http.limits.request_limits import REFUSALS_AT_ONCE_MAX, REFUSALS_PER_S_MAX
from services import users
from services.database import Database
from tests.api.conftest import serving
from tests.api.serving import AServer, Site, body


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def company(hands: Hands) -> Company:
    return Company(hands)


@pytest.fixture
def turns(company: Company, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Pacing:
    monkeypatch.setattr(pacing, "LOOK_S", 0.001)
    return Pacing(company, hands)


async def work(turns: Pacing, owner: str, hands: Hands, seconds: float) -> None:
    """A piece of work that takes so long by the clock of the test."""
    async with turns.turn(owner):
        hands.now_s += seconds


async def given_a_moment(task: "asyncio.Task[None]") -> bool:
    """Whether it is done after it could have gone on many times."""
    for _ in range(20):
        await asyncio.sleep(0.002)
    return task.done()


async def test_an_owner_who_is_alone_never_rests(turns: Pacing, hands: Hands, company: Company) -> None:
    company.asks("ada")
    async with asyncio.timeout(20):
        for _ in range(10):
            await work(turns, "ada", hands, 2.0)


async def test_an_owner_rests_while_others_ask(turns: Pacing, hands: Hands, company: Company) -> None:
    company.asks("bob")
    await work(turns, "ada", hands, 0.55)
    resting = asyncio.create_task(work(turns, "ada", hands, 0.0))
    assert not await given_a_moment(resting)
    hands.now_s += (0.55 - FREE_S) * (1 / SHARE_MAX - 1) - 0.01
    assert not await given_a_moment(resting)
    hands.now_s += 0.02
    async with asyncio.timeout(20):
        await resting


async def test_a_rest_ends_when_nobody_else_asks_any_more(turns: Pacing, hands: Hands, company: Company) -> None:
    company.asks("bob")
    hands.now_s += OTHERS_S - 1
    await work(turns, "ada", hands, 0.9)
    resting = asyncio.create_task(work(turns, "ada", hands, 0.0))
    assert not await given_a_moment(resting)
    hands.now_s += 0.2
    async with asyncio.timeout(20):
        await resting


async def test_small_work_needs_no_rest_and_no_rest_is_long(turns: Pacing, hands: Hands, company: Company) -> None:
    company.asks("bob")
    async with asyncio.timeout(20):
        for _ in range(20):
            await work(turns, "ada", hands, FREE_S)
    await work(turns, "ada", hands, 500.0)
    company.asks("bob")
    resting = asyncio.create_task(work(turns, "ada", hands, 0.0))
    assert not await given_a_moment(resting)
    hands.now_s += REST_S_MAX
    async with asyncio.timeout(20):
        await resting


async def test_another_owner_works_while_one_rests(turns: Pacing, hands: Hands, company: Company) -> None:
    company.asks("bob")
    await work(turns, "ada", hands, 1.0)
    resting = [asyncio.create_task(work(turns, "ada", hands, 0.0)) for _ in range(4)]
    async with asyncio.timeout(20):
        await work(turns, "bob", hands, 0.0)
    assert not any(one.done() for one in resting)
    for one in resting:
        one.cancel()
    await asyncio.gather(*resting, return_exceptions=True)


async def test_who_gives_up_leaves_the_turn_to_the_next(turns: Pacing, hands: Hands) -> None:
    async with turns.turn("ada"):
        waiting = [asyncio.create_task(work(turns, owner, hands, 0.0)) for owner in ("ada", "ada", "bob")]
        await asyncio.sleep(0)
        for one in waiting[:1]:
            one.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting[1:])
        await work(turns, "ada", hands, 0.0)


async def test_a_turn_that_does_not_come_is_refused(
    turns: Pacing, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "WAIT_S_MAX", 0.05)
    async with turns.turn("ada"):
        for owner in ("ada", "bob"):
            with pytest.raises(RateLimited) as refused:
                await work(turns, owner, hands, 0.0)
            assert refused.value.headers == {"Retry-After": str(math.ceil(REST_S_MAX))}
    await work(turns, "bob", hands, 0.0)


def test_a_line_lets_some_through_at_once_and_then_one_after_the_other(hands: Hands) -> None:
    line = WaitingLine(10, 3, hands)
    assert [line.wait_s("ada") for _ in range(6)] == pytest.approx([0, 0, 0, 0, 0.1, 0.2])
    assert line.wait_s("bob") == 0
    hands.now_s += 0.3
    assert line.wait_s("ada", 5) == pytest.approx(0)
    assert line.wait_s("ada") == pytest.approx(0.5)
    hands.now_s += 100
    assert [line.wait_s("ada") for _ in range(5)] == pytest.approx([0, 0, 0, 0, 0.1])


def test_a_line_is_empty_soon_after_a_flood(hands: Hands) -> None:
    line = WaitingLine(10, 3, hands, wait_s_max=5)
    assert max(line.wait_s("ada", 100) for _ in range(1_000)) == 5
    hands.now_s += 5
    assert line.wait_s("ada") == 0


# Refusals.


@pytest_asyncio.fixture
async def slow_refusals(parts: Parts, site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AServer]:
    """A server that refuses three times at once and then twice a second."""
    monkeypatch.setattr("api.http.limits.request_limits.REFUSALS_AT_ONCE_MAX", 3)
    monkeypatch.setattr("api.http.limits.request_limits.REFUSALS_PER_S_MAX", 2)
    async with serving(parts) as served:
        yield served


def bearer_of(database: Database, owner: str) -> dict[str, str]:
    with database.connection() as connection:
        return {"Authorization": f"Bearer {users.add(connection, owner).key}"}


async def test_refusals_of_one_owner_wait_in_line_and_nobody_else_does(
    slow_refusals: AServer, database: Database
) -> None:
    ada, bob = bearer_of(database, "ada"), bearer_of(database, "bob")
    async with httpx.AsyncClient(base_url=slow_refusals.url, trust_env=False, timeout=60) as client:
        began_s = time.monotonic()
        refusals = [asyncio.create_task(client.post("/v1/jobs", headers=ada, json={})) for _ in range(9)]
        assert (await client.post("/v1/jobs", headers=ada, json=body())).status_code == 202
        assert (await client.post("/v1/jobs", headers=bob, json={})).status_code == 422
        assert (await client.get("/healthz")).status_code == 200
        assert not all(one.done() for one in refusals)
        answers = await asyncio.gather(*refusals)
        assert time.monotonic() - began_s >= 2.0  # five waited for half a second each
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "invalid_input")}


async def test_a_refused_body_that_was_read_counts_by_its_size(slow_refusals: AServer, database: Database) -> None:
    ada = bearer_of(database, "ada")
    async with httpx.AsyncClient(base_url=slow_refusals.url, trust_env=False, timeout=60) as client:
        wrong = {"prompt": "x" * 40_000}
        assert (await client.post("/v1/jobs", headers=ada, json=wrong)).status_code == 422
        began_s = time.monotonic()
        assert (await client.post("/v1/jobs", headers=ada, json={})).status_code == 422
        assert time.monotonic() - began_s >= 2.0


async def test_the_administrators_refusals_wait_for_none(site: Site) -> None:
    began_s = time.monotonic()
    for _ in range(40):
        assert (await site.http.get(f"/v1/jobs/{'x' * 36}")).status_code == 404
    assert time.monotonic() - began_s < (4 * REFUSALS_AT_ONCE_MAX) / REFUSALS_PER_S_MAX


async def test_a_refusal_that_waits_gives_its_connection_to_others(
    slow_refusals: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.protocol.CONNECTIONS_MAX", 20)
    guesses: list[socket.socket] = []
    try:
        for number in range(60):
            line = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", slow_refusals.port), 60)
            guesses.append(line)
            line.sendall(f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dk_{number:043d}\r\n\r\n".encode())
        async with httpx.AsyncClient(base_url=slow_refusals.url, trust_env=False, timeout=60) as client:
            assert (await client.get("/healthz")).status_code == 200
    finally:
        for line in guesses:
            line.close()


def test_a_request_that_ends_after_its_connection_leaves_nothing_to_close() -> None:
    class Closed:
        address = "192.0.2.7"

        def make_room(self) -> None:
            raise AssertionError("it is closed already")

    crowd, gone, newcomer = Crowd(), Closed(), Closed()
    crowd.joins(gone)
    crowd.works(gone)
    crowd.leaves(gone)
    crowd.waits(gone)
    crowd.joins(newcomer)
    assert not crowd.make_room(newcomer)
    assert crowd.of(gone.address) == 1


async def test_bodies_that_nobody_wants_are_read_slowly_and_others_are_answered(
    parts: Parts, site: Site, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.limits.open_connections.UNWANTED_BYTES_AT_ONCE", 1_000_000)
    monkeypatch.setattr("api.http.limits.open_connections.UNWANTED_BYTES_PER_S_MAX", 2_000_000)
    ada = bearer_of(database, "ada")
    content = b" " * 6_000_000
    async with (
        serving(parts) as served,
        httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=60) as client,
        httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=60) as other,
    ):
        began_s = time.monotonic()
        headers = {**ada, "Content-Type": "application/json"}
        refused = asyncio.create_task(client.post("/v1/jobs", headers=headers, content=content))
        assert (await other.get("/v1/models", headers=ada)).status_code == 200
        assert (await refused).status_code == 413
        assert (await client.get("/v1/models", headers=ada)).status_code == 200  # over the same connection
        assert time.monotonic() - began_s >= 1.0
