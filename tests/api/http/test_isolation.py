"""Each owner for himself: the whole API is walked as a second owner, who finds nothing of the first one's.

A route that is added later is walked too. One that needs a body, or whose path parameter nothing gives an id for, fails
here until tests/api/isolation.py says how to call it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

import api
from api.app import Parts
from domain.envelope import Recorded
from services import users
from services.database import Database
from services.ledger import Ledger
from tests.api.isolation import (
    ADMINS,
    NAMED,
    QUERIES,
    SOURCED,
    WITHIN,
    WITHOUT_OWNER,
    Route,
    Somebody,
    make_one_of_everything,
    routes_of,
)
from tests.api.serving import AServer, Site
from tests.conftest import Clock

SOURCES = {"media": "media", "asset": "asset_id"}
"""What a source begins with, and the path parameter of such ids."""

INCIDENTAL = {"date", "idempotency-key", "request-id"}
"""Headers that differ from call to call, whoever asks for what."""


@pytest_asyncio.fixture
async def owners(server: AServer, database: Database) -> AsyncIterator[list[Somebody]]:
    """Two users with keys, who have nothing yet."""
    found: list[Somebody] = []
    async with AsyncExitStack() as stack:
        for name in ("ada", "bob"):
            key = await asyncio.to_thread(_key_for, database, name)
            headers = {"Authorization": f"Bearer {key}"}
            client = httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30, trust_env=False)
            found.append(Somebody(name, key, await stack.enter_async_context(client)))
        yield found


def _key_for(database: Database, name: str) -> str:
    with database.connection() as connection:
        return users.add(connection, name).key


@pytest.fixture
def ada(owners: list[Somebody]) -> Somebody:
    """The first, who makes one of everything."""
    return owners[0]


@pytest.fixture
def bob(owners: list[Somebody]) -> Somebody:
    """The second, who looks for it."""
    return owners[1]


@pytest.fixture
def hers(ada: Somebody, ledger: Ledger, project: Callable[[], None], parts: Parts, clock: Clock) -> Site:
    """The API as the first uses it, with a worker next to it."""
    return Site(ada.http, ledger, project, parts, clock, owner=ada.name)


@pytest_asyncio.fixture
async def routes(bob: Somebody) -> list[Route]:
    """All that have an owner."""
    return routes_of((await bob.http.get("/openapi.json")).json())


def lists(routes: list[Route]) -> list[Route]:
    """What is read without naming anything."""
    return [route for route in routes if route.method == "GET" and not route.parameters and not _admins(route)]


def with_ids(routes: list[Route]) -> list[Route]:
    """What names something of an owner."""
    return [route for route in routes if route.parameters and not _admins(route)]


def _admins(route: Route) -> bool:
    return route.path.startswith(ADMINS)


async def everything(who: Somebody, routes: list[Route]) -> dict[str, tuple[int, bytes]]:
    """Every GET that this owner can make, with its answer."""
    found: dict[str, tuple[int, bytes]] = {}
    for route in lists(routes):
        for query in QUERIES.get(route.path, [{}]):
            answer = await who.ask(route, params=query)
            assert answer.status_code == 200, (route.path, answer.text)
            found[f"{route.path} {query}"] = (200, answer.content)
    for route in with_ids(routes):
        if route.method == "GET":
            for identifier in [one for name in route.parameters for one in who.ids[name]]:
                answer = await who.ask(route, identifier)
                found[route.at(identifier)] = (answer.status_code, answer.content)
    return found


async def test_a_second_owner_finds_nothing_of_the_first(
    ada: Somebody, bob: Somebody, hers: Site, routes: list[Route], ledger: Ledger, server: AServer
) -> None:
    empty = await everything(bob, lists(routes))
    async with server.events(token=bob.key) as live:
        ada.ids = await make_one_of_everything(hers, {route.path for route in routes})
        before, head = await everything(ada, routes), ledger.head()
        assert await everything(bob, lists(routes)) == empty
        await _foreign_ids_are_as_unknown_as_random_ones(ada, bob, routes, head)
        await _nothing_of_hers_comes_of_a_filter_or_a_cursor(ada, bob, routes)
        assert ledger.head() == head, "somebody else changed something"
        await _foreign_sources_are_as_unknown_as_random_ones(ada, bob, routes)
        await _foreign_ids_are_as_unknown_within_what_is_his(ada, bob, routes)
        assert await everything(ada, routes) == before
        await bob.http.post("/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "his"})
        his = _streams_of(bob, ledger, after=head)
        await asyncio.to_thread(hers.project)
        heard = await live.until(ledger.head())
    async with server.events(0, token=bob.key) as resumed:
        heard += await resumed.until(ledger.head())
    assert {data["stream"] for _, _, data in heard} == his
    async with server.events(0, token=ada.key) as own:
        heard = await own.until(head)
    assert {data["stream"] for _, _, data in heard} >= {one for ids in ada.ids.values() for one in ids}


def _streams_of(who: Somebody, ledger: Ledger, after: int) -> set[str]:
    """What happened after a position, all of it to what is this one's."""
    events = [event for event in ledger.read(after, 1_000) if isinstance(event, Recorded)]
    assert {event.envelope.owner for event in events} == {who.name}
    return {str(event.stream_id) for event in events}


async def _foreign_ids_are_as_unknown_as_random_ones(
    ada: Somebody, bob: Somebody, routes: list[Route], head: int
) -> None:
    for route in with_ids(routes):
        for name in route.parameters:
            assert name in ada.ids, f"say in tests/api/isolation.py where an id for {name} of {route.path} comes from"
        identifiers = ada.ids_for(*route.parameters)
        for headers in _ways_to_ask(route, head):
            unknown = _comparable(await bob.ask(route, nobodys := str(uuid4()), headers=headers), nobodys)
            assert unknown[0] == 404, (route.method, route.path, unknown)
            for identifier in identifiers[:1] if headers else identifiers:
                foreign = _comparable(await bob.ask(route, identifier, headers=headers), identifier)
                assert foreign == unknown, (route.method, route.path, identifier)


def _ways_to_ask(route: Route, head: int) -> list[dict[str, str]]:
    if route.method != "GET":
        return [{}]
    return [{}, {"If-None-Match": "*"}, {"Range": "bytes=0-9"}, {"Darkroom-Min-Position": str(head)}]


async def _foreign_sources_are_as_unknown_as_random_ones(ada: Somebody, bob: Somebody, routes: list[Route]) -> None:
    paths = {route.path for route in routes}
    for path, made_of in SOURCED:
        for kind in SOURCES if path in paths else {}:
            unknown, *foreign = [
                _comparable(await bob.http.post(path, json=made_of(f"{kind}:{one}")), one)
                for one in (str(uuid4()), *ada.ids_for(SOURCES[kind]))
            ]
            assert unknown[0] == 422 or b'"error"' in unknown[1], (path, unknown)
            assert set(foreign) == {unknown}, (path, kind)


async def _foreign_ids_are_as_unknown_within_what_is_his(ada: Somebody, bob: Somebody, routes: list[Route]) -> None:
    paths = {route.path for route in routes}
    for path, maker, made_of, naming in WITHIN:
        if path in paths:
            made = await bob.http.post(maker, json=made_of)
            assert made.status_code == 202, made.text
            address = re.sub(r"{\w+}", made.json()["id"], path)
            unknown, *foreign = [
                _comparable(await bob.http.post(address, json=naming(one)), one)
                for one in (str(uuid4()), *ada.ids_for("asset_id"))
            ]
            assert unknown[0] in {404, 422}, (path, unknown)
            assert set(foreign) == {unknown}, path


async def _nothing_of_hers_comes_of_a_filter_or_a_cursor(ada: Somebody, bob: Somebody, routes: list[Route]) -> None:
    for route in lists(routes):
        for query in QUERIES.get(route.path, [{}]):
            nothing = (await bob.ask(route, params=query)).content
            page: Mapping[str, Any] = (await ada.ask(route, params={**query, "limit": "1"})).json()
            narrowed = [{name: one} for name in route.queries for one in ada.ids.get(name, [])]
            narrowed += [{"cursor": page["next"]}] if page.get("next") else []
            narrowed += [{"q": "lighthouse"}] if "q" in route.queries else []
            for more in narrowed:
                answer = await bob.ask(route, params={**query, **more})
                assert (answer.status_code, answer.content) == (200, nothing), (route.path, more)


def _comparable(answer: httpx.Response, identifier: str) -> tuple[int, bytes, frozenset[tuple[str, str]]]:
    """The answer but for the id that it repeats, and for the name and place of something new that it says was made."""
    content = answer.content.replace(identifier.encode(), b"ID")
    headers = {(name, value) for name, value in answer.headers.items() if name not in INCIDENTAL}
    if answer.status_code == 202:
        content = content.replace(answer.json()["id"].encode(), b"NEW")
        headers = {(name, value) for name, value in headers if name != "darkroom-position"}
    return answer.status_code, content, frozenset(headers)


async def test_the_first_owner_can_do_all_that_the_walk_tries(
    ada: Somebody, hers: Site, routes: list[Route], clock: Clock
) -> None:
    """Else the second one would be refused for the body, and not for the owner."""
    ada.ids = await make_one_of_everything(hers, {route.path for route in routes})
    for query_of in lists(routes):
        for query in QUERIES.get(query_of.path, [{}]):
            document = (await ada.ask(query_of, params=query)).json()
            assert document.get("results"), (query_of.path, query)
    paths = {route.path for route in routes}
    for path, made_of in SOURCED:
        for kind in SOURCES if path in paths else {}:
            own, unknown = [
                _comparable(await ada.http.post(path, json=made_of(f"{kind}:{one}")), one)
                for one in (ada.ids[SOURCES[kind]][0], str(uuid4()))
            ]
            assert own != unknown, (path, kind)
    for route in sorted(with_ids(routes), key=lambda one: one.method == "DELETE"):
        tried = [await ada.ask(route, one) for name in route.parameters for one in ada.ids[name]]
        # What is hers is at worst in no state for it: it is there.
        assert any(one.status_code < 300 or one.status_code == 409 for one in tried), (route.method, route.path, tried)
    for route in routes:
        if route.method == "POST" and not route.parameters and not _admins(route):
            created = await ada.ask(route)
            assert created.status_code in {200, 201, 202, 204}, (route.path, created.text)


async def test_a_user_administers_nothing(bob: Somebody, routes: list[Route]) -> None:
    admins = [route for route in routes if _admins(route)]
    assert {"/metrics", "/v1/admin/queues"} <= {route.path for route in admins}
    for route in admins:
        assert set(route.parameters) <= {*NAMED, "job_id", "asset_id", "pool", "worker"}
        for name in [*NAMED["name"], str(uuid4()), "unknown"] if route.parameters else [""]:
            answer = await bob.ask(route, name)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), route.path


async def test_what_has_no_owner_is_the_same_for_everybody(ada: Somebody, bob: Somebody) -> None:
    document = (await bob.http.get("/openapi.json")).json()
    for method, path in WITHOUT_OWNER:
        assert method.lower() in document["paths"][path], f"{path} is gone: take it out of WITHOUT_OWNER"
        if path != "/v1/events":
            answers = [(await who.http.request(method, path)).content for who in (ada, bob)]
            assert answers[0] == answers[1], path


async def test_an_idempotency_key_is_its_owners_alone(ada: Somebody, bob: Somebody) -> None:
    headers = {"Idempotency-Key": "one"}
    jobs: dict[str, set[str]] = {}
    for who in (ada, bob, ada, bob):
        submitted = {"job_type": "sdxl_image_fast", "prompt": f"of {who.name}", "quantity": 1}
        answer = await who.http.post("/v1/jobs", json=submitted, headers=headers)
        assert answer.status_code == (202 if who.name not in jobs else 200), answer.text
        jobs.setdefault(who.name, set()).add(answer.json()["id"])
    assert [len(ids) for ids in jobs.values()] == [1, 1]
    assert jobs["ada"].isdisjoint(jobs["bob"])


async def test_the_same_file_of_two_owners_is_two_uploads(ada: Somebody, bob: Somebody, routes: list[Route]) -> None:
    (upload,) = [route for route in routes if (route.method, route.path) == ("POST", "/v1/uploads")]
    first, second = [await who.ask(upload) for who in (ada, bob)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["sha256"] == second.json()["sha256"]
    assert first.json()["id"] != second.json()["id"]
    assert (await bob.http.get(first.json()["url"])).status_code == 404
    assert (await bob.http.get(second.json()["url"])).status_code == 200


def test_only_what_has_no_owner_is_read_past_the_role() -> None:
    """Positions, lengths of queues, what administrators see of all: add a module only for what is no owner's."""
    folder = Path(api.__file__).parent
    sources = [file for file in folder.rglob("*.py") if "parts.database" in file.read_text("utf-8")]
    assert {str(file.relative_to(folder).with_suffix("")) for file in sources} == {
        "admin/dead_jobs",
        "admin/fleet",
        "admin/metrics",
        "admin/views_and_queues",
        "app",
        "jobs/reading",
        "jobs/waiting_times",
        "web/sign_in",
    }
