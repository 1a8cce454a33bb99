"""`HEAD` wherever `GET` works: the same status and headers, no body, and nothing that goes on afterwards."""

import asyncio

import httpx
import pytest
from fastapi.routing import APIRoute

from api.app import ROUTERS
from tests.api.conftest import bearer
from tests.api.serving import AServer, Site, until

OTHER_EACH_TIME = {"date", "request-id", "transfer-encoding", "content-length"}


async def paths_of(site: Site) -> list[str]:
    """An address for each route that takes `GET`, of things that are there."""
    job = await site.finished()
    asset = (await site.get(f"/v1/jobs/{job['id']}"))["assets"][0]
    await site.thumbnail(asset)
    batch = (await site.http.post("/v1/batches", json={"name": "b", "items": [{"prompt": "x"}]})).json()
    await asyncio.to_thread(site.project)
    named = {"job_id": job["id"], "asset_id": asset["id"], "asset": asset["id"], "batch_id": batch["id"]}
    routes = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
    unknown = dict.fromkeys(["media", "prompt", "name", "view", "identifier"], "018f0000-0000-7000-8000-000000000000")
    return [route.path.format(**(unknown | named)) for route in routes if "GET" in route.methods] + [
        "/",
        "/openapi.json",
        "/nowhere",
    ]


async def test_every_address_that_takes_get_takes_head(site: Site, server: AServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), trust_env=False, timeout=20) as client:
        paths = await paths_of(site)
        assert len(paths) > 25
        for path in paths:
            head = await client.head(path)
            async with client.stream("GET", path) as got:  # not read: the event stream has no end
                pass
            assert head.status_code == got.status_code, path
            assert head.content == b""
            assert {**head.headers}.keys() - OTHER_EACH_TIME == {**got.headers}.keys() - OTHER_EACH_TIME, path
            if "content-length" in got.headers and path != "/metrics":
                assert head.headers["content-length"] == got.headers["content-length"], path


async def test_a_stream_whose_head_was_asked_for_is_not_open_afterwards(site: Site, server: AServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), trust_env=False, timeout=20) as client:
        answer = await client.head("/v1/events")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        feed = server.app.state.running.feed
        await until(lambda: not feed._subscriptions)
        assert (await client.head("/v1/events", headers={"Last-Event-ID": "x"})).status_code == 422


@pytest.mark.parametrize("path", ["/v1/enhance", "/v1/uploads"])
async def test_where_get_does_not_work_head_does_not_either(site: Site, path: str) -> None:
    answer = await site.http.head(path)
    assert (answer.status_code, answer.content) == (405, b"")
    assert "POST" in answer.headers["allow"]
