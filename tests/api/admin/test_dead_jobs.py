"""Jobs that failed, whoever's they are, as an administrator lists them and runs them again."""

import asyncio
from uuid import UUID, uuid4

from api.http import schemas
from domain.aggregates.job import Waiting
from domain.commands import ExpireLease, FailAttempt
from domain.envelope import Recorded
from domain.events import ErrorClass, Failure
from domain.json_type import Json
from services.ledger import Ledger
from tests.api.serving import Site

QUIET = Failure(error_class=ErrorClass.TRANSIENT, message="The object store did not answer.")


async def lost_twice(site: Site) -> Json:
    """A job that killed two workers."""
    job = await site.submit()
    for attempt in (1, 2):
        await site.start(job, attempt)
        await site.report(job, ExpireLease(attempt, site.clock.tick()))
    return job


async def exhausted(site: Site, owner: str) -> UUID:
    """A job of somebody else whose three attempts failed."""
    job_id = await asyncio.to_thread(site.submit_as, owner)
    for attempt in (1, 2, 3):
        await site.start({"id": str(job_id)}, attempt)
        await site.report({"id": str(job_id)}, FailAttempt(attempt, QUIET, 0.0, site.clock.tick()))
    return job_id


async def test_dead_jobs_are_listed_across_owners_newest_first(site: Site) -> None:
    killer, given_up = await lost_twice(site), await exhausted(site, "eve")
    await site.finished(quantity=1)
    await site.submit()
    page = await site.get("/v1/admin/dead-jobs")
    assert [row["id"] for row in page["results"]] == [str(given_up), killer["id"]]
    newest, oldest = (schemas.DeadJob.model_validate(row) for row in page["results"])
    assert (newest.owner, newest.attempts, newest.error.error_class, newest.quarantined) == (
        "eve",
        3,
        "transient",
        False,
    )
    assert (oldest.owner, oldest.attempts, oldest.quarantined) == ("admin", 2, True)
    assert oldest.error.error_class == "worker_lost"
    assert newest.retried_as is None
    assert "prompt" not in page["results"][0]


async def test_dead_jobs_come_by_error_class_and_page(site: Site) -> None:
    jobs = [await lost_twice(site) for _ in range(3)]
    await exhausted(site, "eve")
    page = await site.get("/v1/admin/dead-jobs", error_class="worker_lost", limit=2)
    rest = await site.get("/v1/admin/dead-jobs", error_class="worker_lost", limit=2, cursor=page["next"])
    assert [row["id"] for row in page["results"] + rest["results"]] == [job["id"] for job in jobs[::-1]]
    assert rest["next"] is None
    bad = await site.http.get("/v1/admin/dead-jobs", params={"error_class": "bad luck"})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_input")


async def test_a_dead_job_is_run_again_for_its_owner_once(site: Site, ledger: Ledger) -> None:
    job_id = await exhausted(site, "eve")
    first = await site.http.post(f"/v1/admin/dead-jobs/{job_id}/retry")
    again = await site.http.post(f"/v1/admin/dead-jobs/{job_id}/retry")
    assert (first.status_code, again.status_code) == (202, 200)
    retried = schemas.RetriedJob.model_validate(first.json())
    assert again.json() == first.json()
    assert (retried.parent_id, retried.owner) == (job_id, "eve")
    job = ledger.generation(retried.id, owner="eve").job
    assert isinstance(job, Waiting)
    assert job.queued.parent_id == job_id
    (row,) = (await site.get("/v1/admin/dead-jobs"))["results"]
    assert row["retried_as"] == str(retried.id)
    history = [event for event in ledger.stream(retried.id) if isinstance(event, Recorded)]
    assert [(event.envelope.actor, event.envelope.owner) for event in history] == [("admin", "eve")]


async def test_only_what_failed_is_run_again_by_hand(site: Site) -> None:
    done, waiting = await site.finished(quantity=1), await site.submit()
    for job_id in (done["id"], waiting["id"]):
        response = await site.http.post(f"/v1/admin/dead-jobs/{job_id}/retry")
        assert (response.status_code, response.json()["code"]) == (409, "nothing_to_retry")
    for job_id in (uuid4(), "x"):
        response = await site.http.post(f"/v1/admin/dead-jobs/{job_id}/retry")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
