"""Assets: the file, and what their owner makes of them; workspace and library around them."""

import asyncio
import hashlib
from typing import Any

from domain.json_type import Json
from domain.recipes.recipe import asset_id
from services.files.blobs import Blobs
from tests.api.serving import Site, picture

PICTURE = picture(0)
SHA256 = hashlib.sha256(PICTURE).hexdigest()


async def one_asset(site: Site, **changes: Any) -> Json:
    """A completed asset."""
    asset: Json = (await site.finished(quantity=1, **changes))["assets"][0]
    return asset


async def test_an_asset_carries_the_facts_of_its_job(site: Site) -> None:
    job = await site.finished(quantity=1)
    asset = await site.get(f"/v1/assets/{job['assets'][0]['id']}")
    assert {name: asset[name] for name in job["assets"][0]} == job["assets"][0]
    assert {name: asset[name] for name in ("prompt", "job_type", "model", "task", "batch_id")} == {
        name: job[name] for name in ("prompt", "job_type", "model", "task", "batch_id")
    }


async def test_the_file_comes_with_its_hash_as_entity_tag(site: Site) -> None:
    asset = await one_asset(site)
    response = await site.http.get(asset["url"])
    assert (response.status_code, response.content) == (200, PICTURE)
    assert response.headers["ETag"] == f'"{SHA256}"' == f'"{asset["sha256"]}"'
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Length"] == str(len(PICTURE))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Content-Disposition"] == f'inline; filename="{asset["job_id"]}_0.png"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    head = await site.http.head(asset["url"])
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(PICTURE)))


async def test_an_unchanged_file_is_not_sent_again(site: Site) -> None:
    asset = await one_asset(site)
    for tag in (f'"{SHA256}"', f'W/"{SHA256}"', "*", f'"other", "{SHA256}"'):
        response = await site.http.get(asset["url"], headers={"If-None-Match": tag})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", f'"{SHA256}"')
    assert (await site.http.get(asset["url"], headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_range_of_the_file(site: Site) -> None:
    asset = await one_asset(site)
    total = len(PICTURE)
    for wanted, start, end in [
        ("bytes=0-9", 0, 10),
        ("bytes=990-", 990, total),
        ("bytes=-10", total - 10, total),
        ("bytes=500-9999", 500, total),
        ("bytes=-9999", 0, total),
    ]:
        response = await site.http.get(asset["url"], headers={"Range": wanted})
        assert (response.status_code, response.content) == (206, PICTURE[start:end])
        assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{total}"
    for whole in ("bytes=0-1,5-6", "bytes=9-3", "lines=1-2", "bytes=-", "bytes=a-b"):
        assert (await site.http.get(asset["url"], headers={"Range": whole})).status_code == 200
    for outside in (f"bytes={total}-", "bytes=-0"):
        response = await site.http.get(asset["url"], headers={"Range": outside})
        assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")
        assert response.headers["Content-Range"] == f"bytes */{total}"
    for tag, status in ((f'"{SHA256}"', 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": tag}
        assert (await site.http.get(asset["url"], headers=headers)).status_code == status


async def test_the_thumbnail_comes_like_the_file_with_its_own_hash(site: Site) -> None:
    asset = await one_asset(site)
    assert asset["thumbnail_url"] is None
    small = await site.thumbnail(asset)
    for path in (f"/v1/jobs/{asset['job_id']}", "/v1/workspace", "/v1/library", f"/v1/assets/{asset['id']}"):
        document = await site.get(path)
        (shown,) = document.get("assets") or document.get("results") or [document]
        assert shown["thumbnail_url"] == f"/v1/assets/{asset['id']}/thumbnail"
    response = await site.http.get(shown["thumbnail_url"])
    tag = f'"{hashlib.sha256(small).hexdigest()}"'
    assert (response.status_code, response.content, response.headers["ETag"]) == (200, small, tag)
    assert response.headers["Content-Type"] == "image/webp"
    assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response.headers["Content-Disposition"] == f'inline; filename="{asset["id"]}.webp"'
    unchanged = await site.http.get(shown["thumbnail_url"], headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    part = await site.http.get(shown["thumbnail_url"], headers={"Range": "bytes=0-4"})
    assert (part.status_code, part.content) == (206, b"small")
    head = await site.http.head(shown["thumbnail_url"])
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(small)))


async def test_while_there_is_no_thumbnail_it_is_not_found(site: Site) -> None:
    asset = await one_asset(site)
    waiting = (await site.submit())["assets"][0]
    theirs = asset_id(await asyncio.to_thread(site.submit_as, "bob"), 0)
    await site.get("/v1/jobs")
    for identifier, said in [
        (asset["id"], f"no thumbnail yet of the asset {asset['id']}, which is completed"),
        (waiting["id"], f"no thumbnail yet of the asset {waiting['id']}, which is reserved"),
        (theirs, f"no asset {theirs}."),
        ("x", "no asset x."),
    ]:
        response = await site.http.get(f"/v1/assets/{identifier}/thumbnail")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert said in response.json()["detail"]
        assert "Cache-Control" not in response.headers


async def test_a_rating_leaves_the_thumbnail_in_the_answer(site: Site) -> None:
    asset = await one_asset(site)
    await site.thumbnail(asset)
    await site.get("/v1/jobs")
    rated = await site.http.put(f"/v1/assets/{asset['id']}/rating", json={"score": 4})
    assert rated.json()["thumbnail_url"] == f"/v1/assets/{asset['id']}/thumbnail"


async def test_a_file_that_is_not_there_is_not_found(site: Site) -> None:
    asset = await one_asset(site)
    Blobs.delete(site.parts.blobs, f"sdxl_image_fast/admin/{asset['job_id']}_0.png")
    response = await site.http.get(asset["url"])
    assert (response.status_code, response.json()["code"]) == (404, "blob_missing")
    job = await site.submit()
    await site.get("/v1/jobs")
    response = await site.http.get(f"/v1/assets/{job['assets'][0]['id']}/content")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "reserved" in response.json()["detail"]


async def test_what_an_owner_makes_of_an_asset(site: Site) -> None:
    asset = await one_asset(site)
    path = f"/v1/assets/{asset['id']}"
    for method, at, sent, changed in [
        ("PUT", "/rating", {"score": 2}, {"rating": 2}),
        ("PUT", "/rating", {"score": 5}, {"rating": 5}),
        ("PUT", "/rating", {"score": 5}, {"rating": 5}),
        ("PUT", "/saved", None, {"saved": True}),
        ("PATCH", "", {"title": "Fog"}, {"title": "Fog"}),
        ("PATCH", "", {"tags": ["sea", "fog", "sea"]}, {"tags": ["fog", "sea"]}),
        ("PATCH", "", {"add_tags": ["ice", "fog"], "remove_tags": ["sea"]}, {"tags": ["fog", "ice"]}),
        ("PATCH", "", {"title": None, "tags": []}, {"title": None, "tags": []}),
        ("DELETE", "/saved", None, {"saved": False}),
        ("POST", "/restore", None, {}),
    ]:
        response = await site.http.request(method, path + at, json=sent)
        assert response.status_code == 200, response.text
        asset |= changed
        answered = response.json()  # before any view knows it
        assert {name: answered[name] for name in asset} == asset
        assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
        assert await site.get(path) == answered
    history = (await site.get(f"/v1/jobs/{asset['job_id']}/history"))["results"]
    assert [item["data"]["score"] for item in history if item["type"] == "asset.rated"] == [2, 5]


async def test_a_bad_change_is_refused_with_its_path(site: Site) -> None:
    asset = await one_asset(site)
    head = site.ledger.head()
    for method, at, sent, field in [
        ("PUT", "/rating", {"score": 0}, "score"),
        ("PUT", "/rating", {"score": 6}, "score"),
        ("PUT", "/rating", {"score": 4.5}, "score"),
        ("PUT", "/rating", {}, "score"),
        ("PUT", "/rating", {"score": 4, "why": "fog"}, "why"),
        ("PATCH", "", {}, "body"),
        ("PATCH", "", {"title": "x" * 201}, "title"),
        ("PATCH", "", {"title": "Fog\0"}, "title"),
        ("PATCH", "", {"title": "Fog", "tags": ["x" * 65]}, "tags.0"),
        ("PATCH", "", {"rating": 3}, "rating"),
        ("PATCH", "", {"tags": ["fog"], "add_tags": ["sea"]}, "tags"),
        ("PATCH", "", {"tags": [], "remove_tags": []}, "tags"),
        ("PATCH", "", {"add_tags": ["sea", "o\u0308"], "remove_tags": ["\u00f6"]}, "remove_tags"),
        ("PATCH", "", {"title": "Fog", "add_tags": [" "]}, "add_tags.0"),
        ("PATCH", "", {"remove_tags": [str(number) for number in range(21)]}, "remove_tags"),
        ("PUT", "/saved", {"saved": True}, "body"),
    ]:
        response = await site.http.request(method, f"/v1/assets/{asset['id']}{at}", json=sent)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
        assert [one["path"] for one in response.json()["errors"]] == [field]
    response = await site.http.put(f"/v1/assets/{asset['id']}/rating", content=b"5")
    assert response.status_code == 415
    assert site.ledger.head() == head


async def test_tags_that_are_added_at_the_same_time_are_all_there(site: Site) -> None:
    """The view knows none of them meanwhile: each is added to what the ledger has."""
    asset = await one_asset(site)
    path = f"/v1/assets/{asset['id']}"
    tags = [f"t{number:02}" for number in range(20)]
    answers = await asyncio.gather(*(site.http.patch(path, json={"add_tags": [tag]}) for tag in tags))
    assert {one.status_code for one in answers} == {200}
    assert (await site.get(path))["tags"] == tags
    head = site.ledger.head()
    full = await site.http.patch(path, json={"title": "Fog", "add_tags": ["one more"]})
    assert (full.status_code, [one["path"] for one in full.json()["errors"]]) == (422, ["add_tags"])
    assert site.ledger.head() == head  # nor has it a title


async def test_only_a_completed_asset_is_changed(site: Site) -> None:
    job = await site.submit()
    path = f"/v1/assets/{job['assets'][0]['id']}"
    for method, at, sent in [("PUT", "/rating", {"score": 4}), ("PUT", "/saved", None), ("DELETE", "", None)]:
        response = await site.http.request(method, path + at, json=sent)
        assert (response.status_code, response.json()["code"]) == (409, "asset_not_completed")
    response = await site.http.delete(f"/v1/workspace/{job['assets'][0]['id']}")
    assert (response.status_code, response.json()["code"]) == (409, "asset_in_progress")


async def test_writes_need_nats(site: Site) -> None:
    asset = await one_asset(site)
    head = site.ledger.head()
    await site.parts.broker.close()
    for method, path, sent in [
        ("PUT", f"/v1/assets/{asset['id']}/rating", {"score": 4}),
        ("PUT", f"/v1/assets/{asset['id']}/saved", None),
        ("DELETE", f"/v1/assets/{asset['id']}", None),
        ("DELETE", f"/v1/workspace/{asset['id']}", None),
        ("POST", f"/v1/jobs/{asset['job_id']}/cancel", None),
    ]:
        response = await site.http.request(method, path, json=sent)
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
        assert "Retry-After" in response.headers
    assert site.ledger.head() == head


async def test_trash_and_back(site: Site) -> None:
    asset = await one_asset(site)
    trashed = await site.http.delete(f"/v1/assets/{asset['id']}")
    assert (trashed.status_code, trashed.content) == (204, b"")
    assert int(trashed.headers["Darkroom-Position"]) == site.ledger.head()
    for list_name in ("workspace", "library"):
        assert (await site.get(f"/v1/{list_name}"))["results"] == []
    assert (await site.http.get(asset["url"])).content == PICTURE
    await site.http.post(f"/v1/assets/{asset['id']}/restore")
    for list_name in ("workspace", "library"):
        assert [found["id"] for found in (await site.get(f"/v1/{list_name}"))["results"]] == [asset["id"]]


async def test_the_workspace_pages_through_jobs_and_their_assets(site: Site) -> None:
    jobs = [await site.submit() for _ in range(3)]
    await site.start(jobs[1])
    await site.complete(jobs[1], 0)
    expected = [asset["id"] for job in jobs[::-1] for asset in job["assets"]]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while query.get("cursor", "") is not None:
        page = await site.get("/v1/workspace", **query)
        seen += [asset["id"] for asset in page["results"]]
        query["cursor"] = page["next"]
        await site.submit(quantity=1)
    assert seen == expected


async def test_what_was_looked_at_leaves_the_workspace(site: Site) -> None:
    job = await site.submit()
    await site.start(job)
    await site.complete(job, 0)
    first = job["assets"][0]["id"]
    shown = (await site.get("/v1/workspace"))["results"]
    assert [(asset["status"], asset["prompt"]) for asset in shown] == [
        ("completed", "a lighthouse in fog"),
        ("reserved", "a lighthouse in fog"),
        ("reserved", "a lighthouse in fog"),
    ]
    response = await site.http.delete(f"/v1/workspace/{first}")
    assert (response.status_code, int(response.headers["Darkroom-Position"])) == (204, site.ledger.head())
    assert first not in {asset["id"] for asset in (await site.get("/v1/workspace"))["results"]}
    assert (await site.http.delete(f"/v1/workspace/{first}")).status_code == 204


async def test_the_library_is_filtered_and_searched(site: Site) -> None:
    fog = await one_asset(site, prompt="a lighthouse in fog")
    ship = await one_asset(site, prompt="a ship in a bottle", job_type="sdxl_image_high")
    await site.submit()
    await site.http.patch(f"/v1/assets/{ship['id']}", json={"title": "Regatta", "tags": ["sea"]})
    await site.http.put(f"/v1/assets/{ship['id']}/rating", json={"score": 4})
    await site.http.put(f"/v1/assets/{fog['id']}/saved")
    for query, found in [
        ({}, [ship, fog]),
        ({"q": "lighthouse"}, [fog]),
        ({"q": "regatta"}, [ship]),
        ({"q": "sea"}, [ship]),
        ({"q": '"in a bottle" -fog'}, [ship]),
        ({"q": "lighthouse or ship"}, [ship, fog]),
        ({"tag": "sea"}, [ship]),
        ({"saved": "true"}, [fog]),
        ({"saved": "false"}, [ship]),
        ({"min_score": 4}, [ship]),
        ({"min_score": 5}, []),
        ({"kind": "image"}, [ship, fog]),
        ({"kind": "video"}, []),
        ({"model": "sdxl-demo"}, [ship, fog]),
        ({"model": "flux"}, []),
    ]:
        listed = await site.get("/v1/library", **query)
        assert [asset["id"] for asset in listed["results"]] == [asset["id"] for asset in found], query


async def test_the_library_pages_while_files_are_completed(site: Site) -> None:
    before = [(await one_asset(site))["id"] for _ in range(5)]
    first = await site.get("/v1/library", limit=2)
    await one_asset(site)
    second = await site.get("/v1/library", limit=2, cursor=first["next"])
    third = await site.get("/v1/library", limit=2, cursor=second["next"])
    pages = first["results"] + second["results"] + third["results"]
    assert [asset["id"] for asset in pages] == before[::-1]
    assert third["next"] is None
