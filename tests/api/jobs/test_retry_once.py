"""A job's lost outputs are run again once: through whichever route, in whichever order, and however many at a time."""

import asyncio
from itertools import product

import httpx
import pytest

from domain.json_type import Json
from tests.api.batching import batch, finish, item, opened
from tests.api.serving import Site

DOORS = ("job", "job with a key", "administrator")


async def ask(site: Site, door: str, job_id: str, number: int = 0) -> httpx.Response:
    """Ask for a retry of a job through one of the routes."""
    if door == "administrator":
        return await site.http.post(f"/v1/admin/dead-jobs/{job_id}/retry")
    headers = {"Idempotency-Key": f"key-{number}"} if door == "job with a key" else {}
    return await site.http.post(f"/v1/jobs/{job_id}/retry", headers=headers)


async def failed(site: Site) -> Json:
    """A job with one output, which failed."""
    job = await site.submit(quantity=1)
    await site.start(job)
    await site.fail(job, 0)
    return job


async def failed_item(site: Site) -> tuple[str, Json]:
    """A batch's id, and its first item, the job of which failed."""
    document = await opened(site, batch(item("A"), item("B")))
    await finish(site, document["items"][0], fail=(0,))
    return document["id"], document["items"][0]


async def jobs_of(site: Site) -> int:
    """How many jobs there are."""
    return len((await site.get("/v1/jobs", limit=200))["results"])


@pytest.mark.parametrize(("first", "second"), [*product(DOORS, DOORS)])
async def test_a_second_retry_answers_with_the_job_of_the_first(site: Site, first: str, second: str) -> None:
    job = await failed(site)
    answers = [await ask(site, door, job["id"], number) for number, door in enumerate((first, second, first))]
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await jobs_of(site) == 2


@pytest.mark.parametrize(("first", "second"), [*product(DOORS, DOORS)])
async def test_a_second_retry_of_an_item_answers_with_the_job_of_the_first(site: Site, first: str, second: str) -> None:
    batch_id, one = await failed_item(site)
    answers = [await ask(site, door, one["job_id"], number) for number, door in enumerate((first, second, first))]
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    (successor,) = {answer.json()["id"] for answer in answers}
    shown = await site.get(f"/v1/batches/{batch_id}")
    assert shown["items"][0]["jobs"] == [one["job_id"], successor]
    assert await jobs_of(site) == 3


@pytest.mark.parametrize("door", DOORS)
async def test_a_job_whose_item_runs_again_already_answers_with_the_job_of_its_item(site: Site, door: str) -> None:
    batch_id, one = await failed_item(site)
    again = await site.http.post(f"/v1/batches/{batch_id}/retry")
    (standing,) = again.json()["items"]
    answer = await ask(site, door, one["job_id"])
    assert (answer.status_code, answer.json()["id"]) == (200, standing["job_id"])
    canceled = await site.http.post(f"/v1/batches/{batch_id}/cancel")
    assert canceled.json() == {"canceled": 2, "cancel_requested": 0, "already_finished": 0}
    statuses = [job["status"] for job in (await site.get("/v1/jobs"))["results"]]
    assert sorted(statuses) == ["canceled", "canceled", "failed"]


@pytest.mark.parametrize("make", ["job", "item"])
async def test_twelve_retries_at_the_same_time_start_one_job(site: Site, make: str) -> None:
    job_id = (await failed(site))["id"] if make == "job" else (await failed_item(site))[1]["job_id"]
    before = await jobs_of(site)
    asking = [ask(site, door, job_id, number) for number, door in enumerate(DOORS * 4)]
    answers = await asyncio.gather(*asking)
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await jobs_of(site) == before + 1


async def test_a_retry_that_failed_is_run_again_itself(site: Site) -> None:
    job = await failed(site)
    second = (await ask(site, "job", job["id"])).json()
    await site.start(second)
    await site.fail(second, 0)
    third = await ask(site, "job", second["id"])
    assert third.status_code == 202
    again = await ask(site, "job", job["id"])
    assert (again.status_code, again.json()["id"]) == (200, second["id"])


async def test_a_key_of_another_request_is_refused(site: Site) -> None:
    job = await failed(site)
    headers = {"Idempotency-Key": "taken"}
    assert (await site.http.post("/v1/jobs", json=item(None), headers=headers)).status_code == 202
    refused = await site.http.post(f"/v1/jobs/{job['id']}/retry", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
