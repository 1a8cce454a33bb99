"""Every request has an id, and whoever reads the log finds by it what went wrong."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from api.app import Parts, create_app
from api.http.request_log import request_id_of
from services.database import Database
from services.observability.logs import log_to_stderr
from tests.api.conftest import bearer
from tests.api.serving import Site

API = logging.getLogger("api")


class Entries:
    """What the API logs from the call on."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def begin(self) -> None:
        log_to_stderr("DEBUG", "json", API)

    def of(self, request_id: str) -> list[dict[str, object]]:
        entries = [json.loads(line) for line in self._captured.readouterr().err.splitlines()]
        return [entry for entry in entries if entry["request_id"] == request_id]


@pytest.fixture
def entries(capsys: pytest.CaptureFixture[str]) -> Iterator[Entries]:
    yield Entries(capsys)
    API.handlers.clear()
    API.setLevel(logging.NOTSET)
    API.propagate = True


async def test_an_answer_names_the_id_that_the_client_gave(site: Site) -> None:
    response = await site.http.get("/v1/jobs", headers={"Request-Id": "from-a-proxy/42"})
    assert response.headers["Request-Id"] == "from-a-proxy/42"


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, "a\tb", "é", "<script>", "-begins-with-a-dash"])
def test_an_id_that_is_not_fit_for_logs_is_replaced(given: str | None) -> None:
    made = request_id_of(given)
    assert made != given
    assert len(made) == 32
    assert made != request_id_of(given)


async def test_every_answer_has_an_id(site: Site) -> None:
    for path, status in (("/v1/jobs", 200), ("/nothing", 404), ("/healthz", 200)):
        response = await site.http.get(path)
        assert (response.status_code, len(response.headers["Request-Id"])) == (status, 32)
    stranger = await site.http.get("/v1/jobs", headers={"Authorization": "Bearer wrong"})
    assert (stranger.status_code, len(stranger.headers["Request-Id"])) == (401, 32)


async def test_a_request_is_an_entry_at_debug_without_its_query(site: Site, entries: Entries) -> None:
    entries.begin()
    await site.http.get("/v1/jobs?cursor=secret", headers={"Request-Id": "r-1"})
    (entry,) = entries.of("r-1")
    assert (entry["level"], entry["logger"]) == ("DEBUG", "api.http.request_log")
    assert str(entry["message"]).startswith("GET /v1/jobs answered ")


@pytest_asyncio.fixture
async def failing(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    """An API one of whose answers nobody foresaw, the way it is served."""
    app = create_app(parts)

    async def fail() -> None:
        raise ZeroDivisionError("by nobody foreseen")

    app.add_api_route("/v1/fails", fail)
    app.router.routes.insert(0, app.router.routes.pop())  # the table of routes knows only those of the API
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://darkroom", headers=bearer()) as client:
        yield client


async def test_what_nobody_foresaw_is_found_in_the_log_by_the_id_of_its_answer(
    failing: httpx.AsyncClient, entries: Entries
) -> None:
    entries.begin()
    response = await failing.get("/v1/fails")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    (error,) = [entry for entry in entries.of(response.headers["Request-Id"]) if entry["level"] == "ERROR"]
    assert error["message"] == "GET /v1/fails failed"
    assert "by nobody foreseen" in str(error["exception"])


async def test_an_outage_is_an_entry_with_the_id_and_the_code(site: Site, database: Database, entries: Entries) -> None:
    entries.begin()
    await asyncio.to_thread(database.close)
    response = await site.http.get("/v1/admin/queues", headers={"Request-Id": "r-503"})
    assert response.status_code == 503
    (warning,) = [entry for entry in entries.of("r-503") if entry["level"] == "WARNING"]
    assert str(warning["message"]).startswith("GET /v1/admin/queues answered 503 unavailable: ")
    assert warning["owner"] == "admin"
