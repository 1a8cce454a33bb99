"""Nobody takes every place: connections, requests in work and wrong keys of one leave room for others."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio
from psycopg import Connection
from psycopg.rows import TupleRow

from api.app import Parts
from api.http.identity import WRONG_KEYS_AT_ONCE_MAX
from api.http.limits.open_connections import counted_as
from services import users
from services.database import Database
from tests.api.conftest import bearer, serving
from tests.api.serving import TOKEN, AServer, Site, body, until

CONNECTIONS = 60
PATIENCE_S = 60.0


@pytest_asyncio.fixture
async def small(parts: Parts, site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AServer]:
    """A server with few places."""
    monkeypatch.setattr("api.http.protocol.CONNECTIONS_MAX", CONNECTIONS)
    async with serving(parts) as served:
        yield served


@pytest.fixture
def ada(database: Database) -> dict[str, str]:
    """Another user."""
    return _bearer_of(database, "ada")


def _bearer_of(database: Database, owner: str) -> dict[str, str]:
    with database.connection() as connection:
        return {"Authorization": f"Bearer {users.add(connection, owner).key}"}


async def others_are_served(server: AServer, headers: dict[str, str]) -> None:
    """A user who comes now is answered, and so is health, over connections of their own."""
    for _ in range(3):
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/v1/models", headers=headers)).status_code == 200
            assert (await client.post("/v1/jobs", headers=headers, json=body())).status_code == 202


async def held(server: AServer, stack: AsyncExitStack, sent: bytes) -> asyncio.StreamReader:
    """A connection that has sent this, and stays."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    stack.callback(writer.close)
    writer.write(sent)
    return reader


async def answer_head(reader: asyncio.StreamReader) -> str:
    """The head of an answer; nothing when the server hung up."""
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


def head(method: str, path: str, *more: str, token: str = TOKEN) -> bytes:
    """Of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v1/jobs HTTP/1.1\r\nX-Slow: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["bare", "half a head", "kept alive"],
)
async def test_connections_that_ask_nothing_make_room(small: AServer, ada: dict[str, str], sent: bytes) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3 * CONNECTIONS):
            await held(small, stack, sent)
        await others_are_served(small, ada)
        assert small.connections <= CONNECTIONS


async def test_a_request_in_work_is_not_cut_off_for_connections_that_ask_nothing(
    small: AServer, ada: dict[str, str], site: Site
) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(small.events()) for _ in range(5)]
        taking = [asyncio.create_task(one.take()) for one in streams]
        for _ in range(3 * CONNECTIONS):
            await held(small, stack, b"")
        await others_are_served(small, ada)
        job = await site.submit()
        assert {(await one)[2]["stream"] for one in taking} == {job["id"]}


ATTACKS = {
    "uploads that trickle": head(
        "POST", "/v1/uploads", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 9999999"
    ),
    "bodies that trickle": head("POST", "/v1/jobs", "Content-Type: application/json", "Content-Length: 90000"),
    "waits": head("POST", "/v1/jobs", "Prefer: wait=60", "Content-Type: application/json", "Content-Length: 52")
    + b'{"job_type": "sdxl_image_fast", "prompt": "waiting"}',
    "event streams": head("GET", "/v1/events"),
    "batches that trickle": head("POST", "/v1/batches", "Content-Type: application/json", "Content-Length: 90000"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_one_owner_leaves_places_for_others(small: AServer, ada: dict[str, str], attack: str) -> None:
    async with AsyncExitStack() as stack:
        readers = [await held(small, stack, ATTACKS[attack]) for _ in range(2 * CONNECTIONS)]
        refused = [asyncio.create_task(answer_head(reader)) for reader in readers]
        await until(lambda: any(one.done() for one in refused))
        await others_are_served(small, ada)
        heads = [one.result() for one in refused if one.done()]
        turned_away = [one for one in heads if one.startswith(("HTTP/1.1 429 ", "HTTP/1.1 503 "))]
        assert turned_away
        assert all("retry-after: " in one.lower() for one in turned_away)
        for one in refused:
            one.cancel()
        await asyncio.gather(*refused, return_exceptions=True)


async def test_a_place_is_free_again_when_its_request_ends(small: AServer, ada: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=small.url, trust_env=False, timeout=PATIENCE_S, headers=ada) as client:
        for _ in range(CONNECTIONS):
            wait = await client.post("/v1/jobs", json=body(), headers={"Prefer": "wait=0"})
            assert wait.status_code == 202
            assert (await client.post("/v1/uploads", content=b"no form")).status_code == 415


# Wrong keys.


async def test_wrong_keys_are_limited_and_cost_no_database(
    site: Site, ada: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[float] = []

    def counted(connection: Connection[TupleRow], asked: Sequence[bytes]) -> Mapping[bytes, str]:
        questions.append(time.monotonic())
        return users.owners_of(connection, asked)

    def all_counted(connection: Connection[TupleRow]) -> Mapping[bytes, str]:
        questions.append(time.monotonic())
        return users.working_keys(connection)

    monkeypatch.setattr("api.http.identity.owners_of", counted)
    monkeypatch.setattr("api.http.identity.working_keys", all_counted)
    began_s = time.monotonic()
    answers = [
        await site.http.get("/v1/models", headers={"Authorization": f"Bearer dk_{number:043d}"})
        for number in range(300)
    ]
    spent_s = time.monotonic() - began_s
    statuses = [answer.status_code for answer in answers]
    assert statuses[:WRONG_KEYS_AT_ONCE_MAX] == [401] * WRONG_KEYS_AT_ONCE_MAX
    assert statuses.count(429) > 200
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 429)
    assert len(questions) <= WRONG_KEYS_AT_ONCE_MAX + 2 * spent_s + 2
    assert (await site.http.get("/v1/models", headers=ada)).status_code == 200
    assert (await site.http.get("/v1/models", headers=bearer())).status_code == 200
    links = [await site.http.get(f"/?token=dk_{1:043d}", headers={"Authorization": ""}) for _ in range(30)]
    assert 429 in {link.status_code for link in links}


async def test_a_key_that_was_revoked_stops_at_once_also_behind_an_address_with_wrong_keys(
    site: Site, ada: dict[str, str], database: Database
) -> None:
    for number in range(2 * WRONG_KEYS_AT_ONCE_MAX):
        await site.http.get("/v1/models", headers={"Authorization": f"Bearer dk_{number:043d}"})
    assert (await site.http.get("/v1/models", headers=ada)).status_code == 200
    with database.connection() as connection:
        users.revoke(connection, "ada")
    async with asyncio.timeout(20):
        while (answer := await site.http.get("/v1/models", headers=ada)).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert answer.status_code in {401, 429}


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(host: str | None, counted: str) -> None:
    assert counted_as(host) == counted
