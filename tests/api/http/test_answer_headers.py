"""What every answer says to browsers, and what none says to strangers."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.http.response_headers import DEFAULTS, AnswerHeaders
from tests.api.conftest import bearer
from tests.api.serving import AServer, Site

CALLS = [
    ("GET", "/", {}),
    ("GET", "/healthz", {}),
    ("GET", "/readyz", {}),
    ("GET", "/v1/jobs", {}),
    ("HEAD", "/v1/jobs", {}),
    ("GET", "/v1/nothing", {}),
    ("PATCH", "/v1/jobs", {}),
    ("POST", "/v1/jobs", {"content": b"{"}),
    ("POST", "/v1/jobs", {"content": b" " * 2_000_000}),
    ("GET", "/v1/jobs", {"headers": {"X-Filler": "x" * 40_000}}),
    ("GET", "/openapi.json", {}),
    ("GET", "/metrics", {}),
]


@pytest.mark.parametrize("token", [True, False], ids=["known", "stranger"])
@pytest.mark.parametrize(("method", "path", "more"), CALLS)
async def test_every_answer_tells_browsers_what_they_may_do(
    site: Site, server: AServer, method: str, path: str, more: dict[str, object], token: bool
) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, headers=bearer() if token else {}) as client:
        answer = await client.request(method, path, **more)  # type: ignore[arg-type]
    for name, value in DEFAULTS:
        assert answer.headers.get_list(name.decode()) == [value.decode()], name
    assert "server" not in answer.headers
    if not token:
        assert not [name for name in answer.headers if name.startswith("darkroom-")]


async def test_an_answer_that_has_no_application_says_the_same(server: AServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"no HTTP at all\r\n\r\n")
    async with asyncio.timeout(20):
        answer = (await reader.read()).decode().lower()
    writer.close()
    assert answer.startswith("http/1.1 400 ")
    for name, value in DEFAULTS:
        assert f"\r\n{name.decode()}: {value.decode()}\r\n".lower() in answer
    assert "\r\nserver:" not in answer


async def test_a_route_may_say_something_else() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Content-Security-Policy": "sandbox"}
        await PlainTextResponse("fine", headers=headers)(scope, receive, send)

    transport = httpx.ASGITransport(AnswerHeaders(page))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/")
    assert answer.headers.get_list("content-security-policy") == ["sandbox"]
    assert answer.headers["x-content-type-options"] == "nosniff"
