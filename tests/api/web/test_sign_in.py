"""A browser signs in by a link that works once, and keeps a session that ends; only pages of ours may use it."""

import asyncio
from datetime import timedelta
from itertools import product
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import Headers

from api.http.identity import COOKIE_PREFIX
from api.http.same_origin import SAFE, is_from_own_page
from domain.json_type import Json
from services import users
from services.database import Database
from tests.api.serving import TOKEN, AServer, Site, body

OURS = {"Origin": "http://darkroom", "Sec-Fetch-Site": "same-origin"}


async def link(site: Site, token: str = TOKEN) -> str:
    """A new sign-in link, without the host."""
    made = await site.http.post("/v1/sign-in-links", headers={"Authorization": f"Bearer {token}"})
    assert made.status_code == 201, made.text
    assert made.headers["Cache-Control"] == "no-store"
    parts = urlsplit(made.json()["url"])
    return f"{parts.path}?{parts.query}"


async def browser(site: Site, token: str = TOKEN) -> httpx.Response:
    """The same client as a browser that signed in: from here on it has a cookie, and no header."""
    path = await link(site, token)
    site.http.headers.pop("Authorization", None)
    return await site.http.get(path)


async def refused(site: Site, status: int, code: str, **headers: str) -> None:
    """A job is refused, and nothing is appended."""
    head = site.ledger.head()
    answer = await site.http.post("/v1/jobs", json=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert site.ledger.head() == head


async def test_a_link_signs_a_browser_in_and_the_cookie_is_no_token(site: Site) -> None:
    opened = await browser(site)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE_PREFIX}0=ds_")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict", "Max-Age=2592000"} <= {part.strip() for part in cookie.split(";")}
    assert (await site.http.get("/")).json()["openapi"] == "/openapi.json"
    assert (await site.http.get("/v1/admin/queues")).status_code == 200
    assert (await site.http.post("/v1/jobs", json=body(), headers=OURS)).status_code == 202


async def test_a_link_works_once_also_for_those_who_open_it_at_the_same_time(site: Site) -> None:
    path = await link(site)
    site.http.headers.pop("Authorization")
    answers = await asyncio.gather(*(site.http.get(path) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [303] + [401] * 7
    again = await site.http.get(path)
    assert (again.status_code, again.json()["code"]) == (401, "sign_in_link_used")
    assert "darkroom sign-in" in again.json()["detail"]


@pytest.mark.parametrize("code", ["", "wrong", "é", "x" * 43, "x" * 5_000, TOKEN])
async def test_a_wrong_link_lets_nobody_in(site: Site, code: str) -> None:
    site.http.headers.pop("Authorization")
    answer = await site.http.get("/", params={"code": code})
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_link_used")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("ahead", [{"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}, {"X-Moz": "prefetch"}])
async def test_a_browser_that_fetches_ahead_does_not_use_the_link_up(site: Site, ahead: dict[str, str]) -> None:
    path = await link(site)
    site.http.headers.pop("Authorization")
    assert (await site.http.get(path, headers=ahead)).status_code == 204
    assert (await site.http.get(path)).status_code == 303


async def test_asking_for_the_head_of_a_link_does_not_use_it_up(site: Site) -> None:
    path = await link(site)
    site.http.headers.pop("Authorization")
    assert (await site.http.head(path)).status_code < 500
    assert (await site.http.get(path)).status_code == 303


async def test_the_token_in_an_address_signs_nobody_in(site: Site) -> None:
    site.http.headers.pop("Authorization")
    assert (await site.http.get("/", params={"token": TOKEN})).status_code == 401


async def test_an_old_link_and_an_old_session_have_ended(site: Site, database: Database) -> None:
    path = await link(site)
    await _age(database, "sign_in_links", timedelta(hours=25))
    site.http.headers.pop("Authorization")
    assert (await site.http.get(path)).status_code == 401
    await browser(site)
    await _age(database, "sessions", timedelta(days=31))
    await _until_refused(site)


async def test_signing_out_ends_the_session_itself(site: Site) -> None:
    await browser(site)
    cookies = dict(site.http.cookies)
    assert (await site.http.post("/v1/sign-out", headers=OURS)).status_code == 204
    assert not site.http.cookies
    site.http.cookies.update(cookies)
    await _until_refused(site)


async def test_a_users_session_ends_with_the_key_and_no_new_key_brings_it_back(site: Site, database: Database) -> None:
    ada = await asyncio.to_thread(_key, database, "ada")
    await browser(site, ada)
    assert (await site.http.post("/v1/jobs", json=body(), headers=OURS)).status_code == 202
    assert (await site.http.get("/v1/admin/queues")).status_code == 403
    await asyncio.to_thread(_revoke, database, "ada")
    await _until_refused(site)
    await asyncio.to_thread(_key, database, "ada")
    await _until_refused(site)


async def test_a_session_makes_no_links(site: Site) -> None:
    await browser(site)
    answer = await site.http.post("/v1/sign-in-links", headers=OURS)
    assert (answer.status_code, answer.json()["code"]) == (403, "credential_needed")


async def test_a_session_in_the_header_and_a_token_in_the_cookie_are_nobody(site: Site) -> None:
    await browser(site)
    (session,) = dict(site.http.cookies).values()
    site.http.cookies.clear()
    await refused(site, 401, "unauthorized", Authorization=f"Bearer {session}")
    for value in (TOKEN, session.upper(), session[:-1]):
        await refused(site, 401, "unauthorized", Cookie=f"{COOKIE_PREFIX}0={value}", **OURS)
    await refused(site, 401, "unauthorized", Cookie=f"{COOKIE_PREFIX}1={session}", **OURS)


FOREIGN = [
    {"Origin": "http://darkroom:9000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://darkroom:9000"},
    {"Origin": "http://darkroom:9000", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_origin_writes_nothing_with_the_cookie(site: Site, headers: dict[str, str]) -> None:
    await browser(site)
    await refused(site, 403, "cross_origin", **headers)
    files = {"file": ("a.png", b"\x89PNG", "image/png")}
    upload = await site.http.post("/v1/uploads", files=files, headers=headers)
    assert (upload.status_code, upload.json()["code"]) == (403, "cross_origin")


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_program_with_a_token_needs_no_origin(site: Site, headers: dict[str, str]) -> None:
    assert (await site.http.post("/v1/jobs", json=body(), headers=headers)).status_code == 202


async def test_a_page_of_another_origin_reads_nothing_but_what_a_person_opens(site: Site) -> None:
    await browser(site)
    for site_of, mode, status in [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("same-site", "navigate", 200),
        ("same-site", "no-cors", 403),
        ("cross-site", "cors", 403),
    ]:
        answer = await site.http.get("/v1/jobs", headers={"Sec-Fetch-Site": site_of, "Sec-Fetch-Mode": mode})
        assert answer.status_code == status, (site_of, mode)


@pytest.mark.parametrize(("method", "host"), [*product(["GET", "POST", "DELETE"], ["a:1", "A:1", "[::1]:8700"])])
def test_a_page_of_ours_is_one_of_the_same_host_and_port(method: str, host: str) -> None:
    assert is_from_own_page(method, Headers({"host": host, "origin": f"http://{host}"}))
    assert is_from_own_page(method, Headers({"host": host, "origin": f"https://{host.lower()}"}))
    assert not is_from_own_page(method, Headers({"host": host, "origin": f"http://{host}1"}))
    assert is_from_own_page(method, Headers({"host": host})) is (method in SAFE)


async def test_a_waiting_request_ends_when_its_key_is_revoked(server: AServer, site: Site, database: Database) -> None:
    ada = await asyncio.to_thread(_key, database, "ada")
    headers = {"Authorization": f"Bearer {ada}", "Prefer": "wait=50"}
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        waiting = asyncio.create_task(client.post("/v1/jobs", json=body(), headers=headers))
        while site.ledger.head() == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.to_thread(_revoke, database, "ada")
        async with asyncio.timeout(20):
            answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def _until_refused(site: Site) -> None:
    async with asyncio.timeout(20):
        while (answer := await site.http.get("/v1/jobs")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    answered: Json = answer.json()
    assert (answer.status_code, answered["code"]) == (401, "unauthorized")


async def _age(database: Database, table: str, by: timedelta) -> None:
    def age() -> None:
        with database.connection() as connection:
            connection.execute(
                f"update {table} set created_at = created_at - %(by)s, expires_at = expires_at - %(by)s", {"by": by}
            )

    await asyncio.to_thread(age)


def _key(database: Database, owner: str) -> str:
    with database.connection() as connection:
        return users.add(connection, owner).key


def _revoke(database: Database, owner: str) -> None:
    with database.connection() as connection:
        users.revoke(connection, owner)
