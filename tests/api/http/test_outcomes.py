"""An answer says what is true of a change: made, not made, or unknown; and sending it again makes it once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import httpx
import pytest

from domain.json_type import Json
from services.database import Unavailable
from services.ledger import flusher as flushers
from tests.api.serving import Site, body
from tests.services.commits import appends_held_up

KEY = "Idempotency-Key"


async def _job(site: Site) -> tuple[str, Json]:
    return "/v1/jobs", body()


async def _batch(site: Site) -> tuple[str, Json]:
    return "/v1/batches", {"name": "Foxes", "items": [body(), {"prompt": ""}]}


async def _comparison(site: Site) -> tuple[str, Json]:
    variants = [{"job_type": "sdxl_image_fast"}, {"job_type": "sdxl_image_quality"}]
    return "/v1/batches", {"kind": "comparison", "prompt": "a fox", "seed": 1, "variants": variants}


async def _prompt(site: Site) -> tuple[str, Json]:
    return "/v1/prompts", {"title": "Fox", "prompt": "a fox", "job_type": "sdxl_image_fast"}


async def _enhancement(site: Site) -> tuple[str, Json]:
    return "/v1/enhance", {"prompt": "a fox", "job_type": "sdxl_image_fast"}


async def _retry(site: Site) -> tuple[str, None]:
    job = await site.submit(quantity=1)
    await site.start(job)
    await site.fail(job, 0)
    return f"/v1/jobs/{job['id']}/retry", None


async def _batch_retry(site: Site) -> tuple[str, Json]:
    batch = (await site.http.post("/v1/batches", json={"name": "b", "items": [body(quantity=1)]})).json()
    job = {"id": batch["items"][0]["job_id"], "job_type": "sdxl_image_fast"}
    await site.start(job)
    await site.fail(job, 0)
    return f"/v1/batches/{batch['id']}/retry", {"items": [0]}


APPENDING = [_job, _batch, _comparison, _prompt, _enhancement, _retry, _batch_retry]


@pytest.mark.parametrize("asking", APPENDING)
async def test_what_has_no_key_is_given_one_and_is_done_once(
    site: Site, asking: Callable[[Site], Awaitable[tuple[str, Any]]]
) -> None:
    path, content = await asking(site)
    first = await site.http.post(path, json=content)
    assert first.status_code in {200, 201, 202}, first.text
    head = site.ledger.head()
    again = await site.http.post(path, json=content, headers={KEY: first.headers[KEY]})
    assert (again.status_code, again.headers[KEY]) == (200, first.headers[KEY])
    assert _identity(again) == _identity(first)
    assert site.ledger.head() == head
    other = await site.http.post(path, json=content)
    assert other.headers.get(KEY) != first.headers[KEY]


def _identity(response: httpx.Response) -> tuple[object, list[object]]:
    document = response.json()
    return document["id"], [item.get("job_id") for item in document.get("items", [])]


@pytest.mark.parametrize("asking", APPENDING)
async def test_a_refusal_names_the_key_too(site: Site, asking: Callable[[Site], Awaitable[tuple[str, Any]]]) -> None:
    path, _ = await asking(site)
    refused = await site.http.post(path, json={"nonsense": 1})
    assert refused.status_code == 422
    assert len(refused.headers[KEY]) >= 16
    mine = await site.http.post(path, json={"nonsense": 1}, headers={KEY: "mine"})
    assert mine.headers[KEY] == "mine"


@pytest.mark.parametrize("asking", [_job, _batch, _comparison, _prompt, _enhancement, _retry])
async def test_a_commit_that_is_not_answered_is_unknown_and_sent_again_it_lands_once(
    site: Site, dsn: str, monkeypatch: pytest.MonkeyPatch, asking: Callable[[Site], Awaitable[tuple[str, Any]]]
) -> None:
    path, content = await asking(site)
    _impatient(monkeypatch)
    with appends_held_up(dsn) as until_waiting:
        unknown = await site.http.post(path, json=content)
        assert (unknown.status_code, unknown.json()["code"]) == (503, "outcome_unknown")
        assert "Idempotency-Key" in unknown.json()["detail"]
        assert unknown.headers["Retry-After"]
        await asyncio.to_thread(until_waiting, 1)
        nothing = await site.http.post(path, json=content)
        assert (nothing.status_code, nothing.json()["code"]) == (503, "unavailable")
        assert "nothing was changed" in nothing.json()["detail"]
    monkeypatch.undo()
    again = await site.http.post(path, json=content, headers={KEY: unknown.headers[KEY]})
    assert again.status_code == 200, again.text
    head = site.ledger.head()
    third = await site.http.post(path, json=content, headers={KEY: unknown.headers[KEY]})
    assert (_identity(third), site.ledger.head()) == (_identity(again), head)


async def test_a_wait_that_cannot_show_the_job_does_not_sound_as_if_there_were_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> NoReturn:
        raise Unavailable("Postgres cannot be reached.")

    monkeypatch.setattr("api.jobs.routes.job_from_ledger", away)
    unknown = await site.http.post("/v1/jobs", json=body(), headers={"Prefer": "wait=0"})
    assert (unknown.status_code, unknown.json()["code"]) == (503, "outcome_unknown")
    monkeypatch.undo()
    again = await site.http.post("/v1/jobs", json=body(), headers={KEY: unknown.headers[KEY]})
    assert again.status_code == 200
    jobs = (await site.get("/v1/jobs"))["results"]
    assert [job["id"] for job in jobs] == [again.json()["id"]]


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushers, "ANSWER_S_MAX", 0.5)
    monkeypatch.setattr("api.jobs.routes.ANSWER_S_MAX", 0.5)
