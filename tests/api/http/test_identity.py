"""Who is let in, and how long: the administrator's token and users' keys."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import httpx
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from api.app import Parts, create_app
from api.http.identity import Identities, Identity
from services import users
from services.database import Database
from tests.api.conftest import bearer
from tests.api.serving import TOKEN, AServer, Events, Site

STOPPED_S_MAX = 10.0
"""Bound on the end of what a revoked key has open; about a second on a quiet machine."""

CALLS = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/events"),
    ("GET", "/v1/admin/queues"),
    ("GET", "/v1/models"),
]


async def test_nobody_is_let_in_without_the_token(site: Site) -> None:
    app = create_app(site.parts)
    for number, authorization in enumerate(
        (None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer é")
    ):
        for method, path in CALLS:
            headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
            # from an address each: wrong keys are limited
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(f"192.0.2.{number}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://darkroom") as stranger:
                response = await stranger.request(method, path, headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), (authorization, path)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert response.headers["content-type"] == "application/problem+json"
            assert TOKEN not in response.text
    assert site.ledger.head() == 0


async def test_health_is_open(site: Site) -> None:
    site.http.headers.pop("Authorization")
    assert (await site.http.get("/healthz")).json() == {"status": "alive"}
    ready = await site.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"], ready.json()["reasons"]) == (200, "ready", [])


async def test_what_is_not_there_is_a_problem_too(site: Site) -> None:
    for method, path, status, code in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("DELETE", "/v1/events", 405, "method_not_allowed"),
    ]:
        response = await site.http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_key_lets_its_owner_in_and_shows_what_is_the_owners(site: Site, database: Database) -> None:
    theirs = await site.submit()
    ada = await asyncio.to_thread(_added, database, "ada")
    site.http.headers["Authorization"] = f"Bearer {ada}"
    mine = await site.submit()
    assert [job["id"] for job in (await site.get("/v1/jobs"))["results"]] == [mine["id"]]
    assert (await site.http.get(f"/v1/jobs/{theirs['id']}")).status_code == 404
    history = (await site.get(f"/v1/jobs/{mine['id']}/history"))["results"]
    assert {item["actor"] for item in history} == {"ada"}
    for path in ("/v1/admin/queues", "/metrics"):
        assert (await site.http.get(path)).status_code == 403


async def test_a_revoked_key_stops_at_once_and_a_new_one_shows_everything_again(site: Site, database: Database) -> None:
    old = await asyncio.to_thread(_added, database, "ada")
    site.http.headers["Authorization"] = f"Bearer {old}"
    mine = await site.submit()
    await asyncio.to_thread(_revoked, database, "ada")
    began = time.monotonic()
    await _until_refused(site, {})
    assert time.monotonic() - began < STOPPED_S_MAX
    new = await asyncio.to_thread(_added, database, "ada")
    assert new != old
    site.http.headers["Authorization"] = f"Bearer {new}"
    assert [job["id"] for job in (await site.get("/v1/jobs"))["results"]] == [mine["id"]]
    site.http.headers["Authorization"] = f"Bearer {old}"
    assert (await site.http.get("/v1/jobs")).status_code == 401


async def test_many_requests_ask_the_database_once(
    site: Site, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[int] = []

    def counted(connection: Connection[TupleRow], asked: Sequence[bytes]) -> Mapping[bytes, str]:
        questions.append(len(asked))
        return users.owners_of(connection, asked)

    monkeypatch.setattr("api.http.identity.owners_of", counted)
    ada, bob = [await asyncio.to_thread(_added, database, name) for name in ("ada", "bob")]
    headers = [{"Authorization": f"Bearer {token}"} for token in (ada, bob, "dk_" + "x" * 43) * 20]
    answers = await asyncio.gather(*(site.http.get("/v1/models", headers=each) for each in headers))
    assert [answer.status_code for answer in answers] == [200, 200, 401] * 20
    assert sum(questions) <= 6  # three keys, in one question or in the one that waited for it
    assert len(questions) <= 2
    await site.http.get("/v1/models", headers=headers[0])
    assert len(questions) <= 2


async def test_a_key_asked_for_twice_while_the_database_answers_is_known_both_times(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering, asked = threading.Event(), threading.Event()

    def slowly(connection: Connection[TupleRow], fingerprints: Sequence[bytes]) -> Mapping[bytes, str]:
        asked.set()
        assert answering.wait(20)
        return users.owners_of(connection, fingerprints)

    monkeypatch.setattr("api.http.identity.owners_of", slowly)
    ada, bob = [await asyncio.to_thread(_added, database, name) for name in ("ada", "bob")]
    identities = Identities(TOKEN, database)
    first = asyncio.create_task(identities.identify(ada))
    await asyncio.to_thread(asked.wait, 20)
    others = [asyncio.create_task(identities.identify(bob)) for _ in range(3)]
    given_up = asyncio.create_task(identities.identify(bob))
    await asyncio.sleep(0)
    given_up.cancel()
    answering.set()
    assert await first == Identity("ada")
    assert await asyncio.gather(*others) == [Identity("bob")] * 3


async def test_one_key_in_many_requests_at_once_is_known_to_each(site: Site, database: Database) -> None:
    ada, bob = [await asyncio.to_thread(_added, database, name) for name in ("ada", "bob")]
    first = asyncio.create_task(site.http.get("/v1/models", headers={"Authorization": f"Bearer {bob}"}))
    await asyncio.sleep(0)  # the question about bob is on its way
    again = {"Authorization": f"Bearer {ada}"}
    answers = [await first, *await asyncio.gather(*(site.http.get("/v1/models", headers=again) for _ in range(8)))]
    assert [answer.status_code for answer in answers] == [200] * 9


async def test_what_is_no_key_of_ours_is_never_asked_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> NoReturn:
        raise AssertionError("the database was asked")

    monkeypatch.setattr("api.http.identity.owners_of", asked)
    for token in ("", "wrong", "dk_short", TOKEN + "x"):
        response = await site.http.get("/v1/models", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401
    assert (await site.http.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_without_postgres_nobody_is_called_unknown(
    parts: Parts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.database.CHECKOUT_S_MAX", 0.1)
    ada = await asyncio.to_thread(_added, database, "ada")
    with Database("host=127.0.0.1 port=1 dbname=none") as nowhere:
        app = create_app(replace(parts, database=nowhere))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://darkroom"
        ) as http:
            for token, path in ((ada, "/v1/models"), ("dk_" + "x" * 43, "/v1/models"), (ada, "/?code=" + "x" * 43)):
                response = await http.get(path, headers={"Authorization": f"Bearer {token}"})
                assert (response.status_code, response.json()["code"]) == (503, "unavailable")
                assert "Retry-After" in response.headers
            assert (await http.get("/v1/models", headers=bearer())).status_code == 200
            assert (await http.get("/v1/models", headers={"Authorization": "Bearer wrong"})).status_code == 401


async def test_the_index_needs_a_token_whatever_its_query_is_called(site: Site) -> None:
    site.http.headers.pop("Authorization")
    for query in ("xcode=1", "x=code=", "Code=1", f"token={TOKEN}"):
        assert (await site.http.get(f"/?{query}")).status_code == 401


async def test_a_stream_of_a_revoked_key_ends_within_seconds_and_others_go_on(
    site: Site, server: AServer, database: Database
) -> None:
    tokens = [await asyncio.to_thread(_added, database, name) for name in ("ada", "bob")]
    async with server.events(token=tokens[0]) as ada, server.events(token=tokens[1]) as bob:
        await asyncio.to_thread(_revoked, database, "ada")
        began = time.monotonic()
        with pytest.raises(StopAsyncIteration):
            await ada.take()
        assert time.monotonic() - began < STOPPED_S_MAX
        taking = asyncio.create_task(bob.take())
        job = await asyncio.to_thread(site.submit_as, "bob")
        assert (await taking)[2]["stream"] == str(job)


async def test_a_busy_stream_of_a_revoked_key_ends_as_well(site: Site, server: AServer, database: Database) -> None:
    token = await asyncio.to_thread(_added, database, "ada")
    async with server.events(token=token) as events:
        await asyncio.to_thread(_revoked, database, "ada")
        began = time.monotonic()
        with pytest.raises(StopAsyncIteration):
            await _keep_busy(site, events)
        assert time.monotonic() - began < STOPPED_S_MAX


async def _keep_busy(site: Site, events: Events) -> None:
    """For 10 s at most."""
    async with asyncio.timeout(10):
        while True:
            await asyncio.to_thread(site.submit_as, "ada")
            for _ in range(4):  # a job and its three assets
                await events.take()


def _added(database: Database, owner: str) -> str:
    with database.connection() as connection:
        return users.add(connection, owner).key


def _revoked(database: Database, owner: str) -> None:
    with database.connection() as connection:
        users.revoke(connection, owner)


async def _until_refused(site: Site, headers: dict[str, str]) -> None:
    async with asyncio.timeout(20):
        while (answer := await site.http.get("/v1/jobs", headers=headers)).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # seldom enough for the bound on requests
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
