"""Ratings from anywhere by the asset's own id, and the scores that follow from them."""

import asyncio
import hashlib
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.http import schemas
from domain.json_type import Json
from domain.recipes.recipe import asset_id
from tests.api.serving import Site
from tests.histories import Story


async def rate(site: Site, asset: str | UUID, score: int) -> None:
    """A quick rating."""
    response = await site.http.put(f"/v1/assets/{asset}/rating", json={"score": score})
    assert response.status_code == 200, response.text
    assert response.json()["rating"] == score


async def scores(site: Site, by: str, **query: Any) -> list[Json]:
    """A page of the list, after the views caught up."""
    found: list[Json] = (await site.get("/v1/scores", by=by, **query))["results"]
    for one in found:
        schemas.Score.model_validate(one)
    return found


async def test_scores_tell_how_often_something_was_used_and_how_it_was_rated(site: Site) -> None:
    fog = await site.finished(prompt="fog")
    await site.submit(prompt="fog", job_type="sdxl_image_high")
    for asset, score in zip(fog["assets"], (5, 4, 4), strict=True):
        await rate(site, asset["id"], score)
    await rate(site, fog["assets"][1]["id"], 1)
    (shown,) = await scores(site, "prompt")
    assert shown == {
        "by": "prompt",
        "value": hashlib.sha256(b"fog").hexdigest(),
        "prompt": "fog",
        "jobs": 2,
        "count": 3,
        "mean": 3.3333,
        "distribution": {"1": 1, "2": 0, "3": 0, "4": 1, "5": 1},
        "score": 3.125,
        "preferences": {"won": 0, "lost": 0},
        "strength": None,
        "formula": 1,
    }
    (model,) = await scores(site, "model")
    assert model == shown | {"by": "model", "value": "sdxl-demo", "prompt": None}
    fast, high = await scores(site, "job_type")
    assert fast == shown | {"by": "job_type", "value": "sdxl_image_fast", "prompt": None, "jobs": 1}
    assert (high["value"], high["jobs"], high["count"], high["mean"], high["score"]) == (
        "sdxl_image_high", 1, 0, None, 3.0,
    )  # fmt: skip


async def test_one_five_star_vote_does_not_win(site: Site) -> None:
    once = await site.finished(prompt="once", quantity=1)
    often = await site.finished(prompt="often", quantity=6)
    await rate(site, once["assets"][0]["id"], 5)
    for asset, score in zip(often["assets"], (5, 5, 4, 5, 4, 5), strict=True):
        await rate(site, asset["id"], score)
    assert [one["prompt"] for one in await scores(site, "prompt")] == ["often", "once"]


async def test_preferences_become_strengths(site: Site) -> None:
    story = Story(site.ledger, site.clock.tick)
    batch_id, (demo, flux) = await asyncio.to_thread(story.compared, "sdxl-demo", "flux", owner="admin")
    await asyncio.to_thread(story.prefer, batch_id, flux, demo, owner="admin")
    first, second = sorted(await scores(site, "model"), key=lambda one: -one["strength"])
    assert (first["value"], first["preferences"], first["strength"]) == ("flux", {"won": 1, "lost": 0}, 2.1304)
    assert (second["value"], second["preferences"], second["strength"]) == (
        "sdxl-demo", {"won": 0, "lost": 1}, 0.4694,
    )  # fmt: skip
    assert {one["strength"] for one in await scores(site, "prompt")} == {None}  # one prompt, compared with itself


async def test_the_list_pages_in_its_order_and_what_is_new_moves_nothing(site: Site) -> None:
    jobs = {name: await site.finished(prompt=name, quantity=1) for name in "abcdefg"}
    for name, score in (("b", 5), ("c", 4), ("d", 4), ("e", 1), ("f", 3)):
        await rate(site, jobs[name]["assets"][0]["id"], score)
    expected = ["b", "d", "c", "f", "g", "a", "e"]  # rated 3 stands before what nobody rated
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while query.get("cursor", "") is not None:
        page = await site.get("/v1/scores", by="prompt", **query)
        seen += [one["prompt"] for one in page["results"] if len(one["prompt"]) == 1]
        query["cursor"] = page["next"]
        await rate(site, (await site.finished(prompt=f"new {len(seen)}", quantity=1))["assets"][0]["id"], 5)
    assert seen == expected


async def test_a_read_that_names_its_write_sees_it(site: Site) -> None:
    job = await site.finished(quantity=1)
    rated = await site.http.put(f"/v1/assets/{job['assets'][0]['id']}/rating", json={"score": 5})
    headers = {"Darkroom-Min-Position": rated.headers["Darkroom-Position"]}
    reading = asyncio.create_task(site.http.get("/v1/scores", params={"by": "model"}, headers=headers))
    await asyncio.to_thread(site.project)
    assert (await reading).json()["results"][0]["count"] == 1


@pytest.mark.parametrize("by", [None, "", "owner", "Model", "prompt,model", "a\0"])
async def test_what_scores_can_be_listed_by_is_said(site: Site, by: str | None) -> None:
    response = await site.http.get("/v1/scores", params={} if by is None else {"by": by})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert response.json()["errors"] == [{"path": "by", "detail": "must be one of prompt, model, job_type"}]


async def test_a_cursor_belongs_to_its_list(site: Site) -> None:
    for number in range(2):
        await site.submit(prompt=f"fog {number}")
    cursor = (await site.get("/v1/scores", by="prompt", limit=1))["next"]
    assert len(await scores(site, "prompt", cursor=cursor)) == 1
    for by, wrong in (("model", cursor), ("prompt", "x"), ("prompt", cursor[:-4])):
        response = await site.http.get("/v1/scores", params={"by": by, "cursor": wrong})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")
    assert (await site.http.get("/v1/scores", params={"by": "model", "limit": 0})).status_code == 422


async def test_each_owner_sees_his_own(site: Site) -> None:
    await asyncio.to_thread(site.submit_as, "bob")
    assert await scores(site, "model") == []
    await site.submit()
    (mine,) = await scores(site, "model")
    assert mine["jobs"] == 1


# Quick ratings: an asset has its id from the moment its job is accepted, whatever it came from.


async def test_an_asset_of_a_retried_job_is_rated_by_its_own_id(site: Site) -> None:
    job = await site.submit(quantity=3)
    await site.start(job)
    await site.complete(job, 0)
    for index in (1, 2):
        await site.fail(job, index)
    again = (await site.http.post(f"/v1/jobs/{job['id']}/retry")).json()
    await site.start(again)
    await site.complete(again, 0)
    await site.get("/v1/jobs")
    await rate(site, again["assets"][0]["id"], 5)
    await rate(site, job["assets"][0]["id"], 2)
    (model,) = await scores(site, "model")
    assert (model["jobs"], model["distribution"]) == (2, {"1": 0, "2": 1, "3": 0, "4": 0, "5": 1})
    refused = await site.http.put(f"/v1/assets/{job['assets'][1]['id']}/rating", json={"score": 5})
    assert (refused.status_code, refused.json()["code"]) == (409, "asset_not_completed")


async def test_an_asset_of_a_comparison_is_rated_by_its_own_id(site: Site) -> None:
    story = Story(site.ledger, site.clock.tick)
    _, jobs = await asyncio.to_thread(story.compared, "sdxl-demo", "flux", owner="admin")
    await site.get("/v1/jobs")
    await rate(site, asset_id(jobs[1], 0), 4)
    assert {one["value"]: one["count"] for one in await scores(site, "model")} == {"flux": 1, "sdxl-demo": 0}


async def test_only_what_is_there_is_rated(site: Site) -> None:
    job = await site.submit(quantity=1)
    theirs = asset_id(await asyncio.to_thread(site.submit_as, "bob"), 0)
    asset = job["assets"][0]["id"]
    for identifier, status, code in [
        (asset, 409, "asset_not_completed"),  # in progress
        (uuid4(), 404, "not_found"),
        (theirs, 404, "not_found"),
        (job["id"], 404, "not_found"),
        ("7", 404, "not_found"),
    ]:
        response = await site.http.put(f"/v1/assets/{identifier}/rating", json={"score": 5})
        assert (response.status_code, response.json()["code"]) == (status, code)
    assert {one["count"] for one in await scores(site, "model")} == {0}
    await site.start(job)
    await site.complete(job, 0)
    await site.get("/v1/jobs")
    await rate(site, asset, 5)
    assert {one["count"] for one in await scores(site, "model")} == {1}
