"""What clients sent before a restore of an older backup, and send again after it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from services.files.blobs import Blobs
from services.migrate import migrate
from services.restore.command import RestoreReport, restored
from tests.api.serving import Site
from tests.services.older_backup import backup_of, writing
from tests.services.restore.test_restored import finished, publish, story_in

BODY = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse", "quantity": 1}
BATCH = {"name": "Night", "items": [BODY | {"template": "one"}, BODY | {"template": "two"}]}


@pytest.fixture
def dsn(empty_dsn: str) -> str:
    """A migrated database that may be dropped and made again."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection)
    return empty_dsn


@pytest.fixture
def restore(dsn: str, nats_url: str, tmp_path: Path) -> Callable[[bool], RestoreReport]:
    """The command, on the database and the session's NATS; whether to discard."""
    blobs = Blobs((tmp_path / "blobs").as_uri())

    def run(discard: bool) -> RestoreReport:
        return restored(dsn, nats_url, blobs, tmp_path / "data", discard=discard, declare=False, dry_run=False)

    return run


async def sent(site: Site, path: str, body: object, key: str) -> tuple[int, str, str]:
    """The status, the id, and the position that the answer names; while connections are made again, again."""
    async with asyncio.timeout(20):
        while True:
            answer = await site.http.post(path, json=body, headers={"Idempotency-Key": key})
            if answer.status_code != 503:
                assert answer.is_success, answer.text
                return answer.status_code, answer.json()["id"], answer.headers["Darkroom-Position"]
            assert answer.json()["code"] == "unavailable"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("grown", [False, True], ids=["taken back", "merged"])
async def test_a_key_of_before_the_restore_is_answered_with_the_same_job(
    site: Site, dsn: str, nats_url: str, restore: Callable[[bool], RestoreReport], *, grown: bool
) -> None:
    with backup_of(dsn) as backup:
        _, job, _ = await sent(site, "/v1/jobs", BODY, "one-job")
        _, batch, _ = await sent(site, "/v1/batches", BATCH, "a-batch")
        await asyncio.to_thread(publish, site.ledger, nats_url)
        await asyncio.to_thread(backup.restore)
        if grown:
            with writing(dsn) as other:
                await asyncio.to_thread(finished(1), story_in(other))
        report = await asyncio.to_thread(restore, False)
    assert report.plan is not None
    assert (report.plan.how, len(report.plan.left_out)) == ("merged" if grown else "taken_back", 0)
    head = site.ledger.head()
    assert (await sent(site, "/v1/jobs", BODY, "one-job"))[:2] == (200, job)
    assert (await sent(site, "/v1/batches", BATCH, "a-batch"))[:2] == (200, batch)
    other_body = await site.http.post("/v1/jobs", json=BODY | {"seed": 7}, headers={"Idempotency-Key": "one-job"})
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency_key_reused")
    assert site.ledger.head() == head  # nothing was begun a second time
    assert len((await site.get("/v1/jobs"))["results"]) == 3


async def test_a_key_of_what_was_discarded_begins_the_job_once_more_and_only_once(
    site: Site, dsn: str, nats_url: str, restore: Callable[[bool], RestoreReport]
) -> None:
    with backup_of(dsn) as backup:
        _, job, _ = await sent(site, "/v1/jobs", BODY, "one-job")
        await asyncio.to_thread(publish, site.ledger, nats_url)
        await asyncio.to_thread(backup.restore)
        await asyncio.to_thread(restore, True)
    assert (await site.http.get(f"/v1/jobs/{job}")).status_code == 404
    assert (await sent(site, "/v1/jobs", BODY, "one-job"))[:2] == (202, job)  # the key gives the id
    assert (await sent(site, "/v1/jobs", BODY, "one-job"))[:2] == (200, job)
    assert [one["id"] for one in (await site.get("/v1/jobs"))["results"]] == [job]
