"""Deleting for good: what goes, what stays known, who may, and what is said afterwards."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.aggregates.asset import Purged
from domain.commands import PurgeAsset, TrashAsset
from domain.json_type import Json
from services.database import Database
from services.files.sweeper import Sweeper
from services.files.thumbnails import thumbnail_path
from services.ledger import ASSET, Context, Ledger
from tests.api.assets.test_upload_deletion import answered_late
from tests.api.serving import Site, body
from tests.spec import NOW


async def trashed(site: Site) -> Json:
    """A completed asset with a thumbnail, in the trash."""
    job = await site.finished(quantity=1)
    (asset,) = (await site.get(f"/v1/jobs/{job['id']}"))["assets"]
    await site.thumbnail(asset)
    assert (await site.http.delete(f"/v1/assets/{asset['id']}")).status_code == 204
    return asset


async def is_there(site: Site, asset: Json) -> tuple[bool, bool]:
    """Whether file and thumbnail are."""
    reservation = site.ledger.asset(UUID(asset["id"])).reservation  # type: ignore[union-attr]
    blobs = site.parts.blobs
    thumbnail = await blobs.exists(thumbnail_path(reservation.owner, UUID(asset["id"])))
    return await blobs.exists(reservation.path), thumbnail


async def say(site: Site, method: str, path: str, **more: Any) -> httpx.Response:
    """A request while the views follow, as they do in an installation."""
    asking = asyncio.create_task(site.http.request(method, path, **more))
    while not asking.done():
        await asyncio.to_thread(site.project)
        await asyncio.sleep(0.005)  # lets the request go on
    return asking.result()


async def test_what_is_purged_has_no_file_and_no_thumbnail_and_is_gone(site: Site, ledger: Ledger) -> None:
    asset = await trashed(site)
    assert await is_there(site, asset) == (True, True)
    purged = await say(site, "POST", f"/v1/assets/{asset['id']}/purge")
    assert (purged.status_code, purged.content) == (204, b"")
    assert await is_there(site, asset) == (False, False)
    for what in ("content", "thumbnail"):
        for method in ("GET", "HEAD"):
            gone = await site.http.request(method, f"/v1/assets/{asset['id']}/{what}")
            assert gone.status_code == 410
        assert (await site.http.get(f"/v1/assets/{asset['id']}/{what}")).json()["code"] == "asset_purged"
    seen = await site.get(f"/v1/assets/{asset['id']}")
    assert (seen["status"], seen["url"], seen["thumbnail_url"], seen["sha256"]) == (
        "purged",
        None,
        None,
        asset["sha256"],
    )
    (in_job,) = (await site.get(f"/v1/jobs/{asset['job_id']}"))["assets"]
    assert in_job["status"] == "purged"
    assert (await site.get("/v1/library", trashed=True))["results"] == []
    assert (await site.get("/v1/library"))["results"] == []
    assert (await site.get("/v1/workspace"))["results"] == []
    (last,) = (await site.get(f"/v1/jobs/{asset['job_id']}/history"))["results"][-1:]
    assert (last["type"], last["actor"]) == ("asset.purged", "admin")


async def test_a_change_that_is_answered_only_after_a_purge_says_that_the_asset_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await trashed(site)
    purge = PurgeAsset(NOW)
    admin = Context("admin", "admin")
    answered_late(site, monkeypatch, lambda: site.ledger.execute(ASSET, UUID(asset["id"]), purge, admin))
    refused = await say(site, "PUT", f"/v1/assets/{asset['id']}/rating", json={"score": 4})
    assert (refused.status_code, refused.json()["code"]) == (410, "asset_purged")


async def test_only_what_is_in_the_trash_is_purged_and_twice_is_once(site: Site) -> None:
    job = await site.finished(quantity=1)
    (asset,) = (await site.get(f"/v1/jobs/{job['id']}"))["assets"]
    refused = await say(site, "POST", f"/v1/assets/{asset['id']}/purge")
    assert (refused.status_code, refused.json()["code"]) == (409, "asset_not_trashed")
    assert (await site.http.get(f"/v1/assets/{asset['id']}/content")).status_code == 200
    await site.http.delete(f"/v1/assets/{asset['id']}")
    for _ in range(2):
        assert (await say(site, "POST", f"/v1/assets/{asset['id']}/purge")).status_code == 204
    restored = await site.http.post(f"/v1/assets/{asset['id']}/restore")
    assert (restored.status_code, restored.json()["code"]) == (410, "asset_purged")
    rated = await site.http.put(f"/v1/assets/{asset['id']}/rating", json={"score": 3})
    assert rated.status_code == 410
    assert (await say(site, "POST", f"/v1/assets/{uuid4()}/purge")).status_code == 404


async def test_nothing_starts_from_what_was_purged_and_reuse_says_so(site: Site) -> None:
    asset = await trashed(site)
    source = {"type": "composition", "source": f"asset:{asset['id']}", "strength": 0.5}
    job = await site.submit(references=[source])
    await say(site, "POST", f"/v1/assets/{asset['id']}/purge")
    refused = await site.http.post("/v1/jobs", json=body(references=[source]))
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "references.0.source")
    assert "was deleted for good" in refused.json()["errors"][0]["detail"]
    inputs = await site.get(f"/v1/jobs/{job['id']}/inputs")
    assert [(one["name"], "was deleted for good" in one["reason"]) for one in inputs["skipped"]] == [
        ("references.0", True)
    ]


async def test_the_trash_is_emptied_for_its_owner_alone(site: Site, ledger: Ledger) -> None:
    assets = [await trashed(site) for _ in range(3)]
    kept = await site.finished(quantity=1)
    theirs = await asyncio.to_thread(site.submit_as, "eve")
    await site.start({"id": str(theirs)})
    emptied = await say(site, "DELETE", "/v1/trash")
    assert emptied.status_code == 200
    assert emptied.json() == {"purged": 3, "bytes": sum(asset["bytes"] for asset in assets), "more": False}
    for asset in assets:
        assert isinstance(ledger.asset(UUID(asset["id"])), Purged)
        assert await is_there(site, asset) == (False, False)
    assert (await site.get(f"/v1/jobs/{kept['id']}"))["assets"][0]["status"] == "completed"
    assert (await say(site, "DELETE", "/v1/trash")).json() == {"purged": 0, "bytes": 0, "more": False}


async def test_an_administrator_purges_what_is_in_anybodys_trash(site: Site, ledger: Ledger) -> None:
    job_id = await asyncio.to_thread(site.submit_as, "eve")
    job = {"id": str(job_id), "job_type": "sdxl_image_fast"}
    await site.start(job)
    await site.complete(job, 0)
    (first, *_) = (await site.get(f"/v1/admin/jobs/{job_id}"))["assets"]
    not_yet = await say(site, "POST", f"/v1/admin/assets/{first['id']}/purge")
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "asset_not_trashed")
    ledger.execute(ASSET, UUID(first["id"]), TrashAsset(NOW), Context("eve", "eve"))
    await site.get(f"/v1/admin/jobs/{job_id}")
    assert (await say(site, "DELETE", "/v1/admin/trash", params={"owner": "ben"})).json()["purged"] == 0
    assert (await site.http.delete("/v1/admin/trash")).status_code == 422
    assert (await say(site, "POST", f"/v1/admin/assets/{first['id']}/purge")).status_code == 204
    history = (await site.get(f"/v1/admin/jobs/{job_id}/history"))["results"]
    assert (history[-1]["type"], history[-1]["actor"]) == ("asset.purged", "admin")


@pytest.mark.parametrize("passes", [1, 2])
async def test_the_sweeper_deletes_the_files_that_a_crash_left(
    site: Site, database: Database, ledger: Ledger, passes: int
) -> None:
    asset = await trashed(site)
    kept = await trashed(site)
    ledger.execute(ASSET, UUID(asset["id"]), PurgeAsset(NOW), Context("admin", "admin"))  # and the process died
    assert await is_there(site, asset) == (True, True)
    sweeper = Sweeper(database, ledger, site.parts.blobs, after_s=[0.0])
    for _ in range(passes):
        while await asyncio.to_thread(sweeper.step):
            pass
    assert await is_there(site, asset) == (False, False)
    assert await is_there(site, kept) == (True, True)
