"""Saved prompts: kept for a model or a job type, found by task, tag and words, judged by what was made of them."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.http import schemas
from domain.commands import SavePrompt
from domain.json_type import Json
from domain.recipes.recipe import Task
from services.ledger import PROMPT, Context
from tests.api.serving import Site, until

FOX = {
    "title": "Fox",
    "prompt": "a fox in fog",
    "negative_prompt": "blurry",
    "job_type": "sdxl_image_fast",
    "tags": ["fog", "animal", "fog"],
}


async def saved(site: Site, status: int = 201, *, key: str | None = None, **changes: Any) -> Json:
    """A prompt, saved; what is None is left away."""
    sent = {name: value for name, value in (FOX | changes).items() if value is not None}
    response = await site.http.post("/v1/prompts", json=sent, headers={} if key is None else {"Idempotency-Key": key})
    assert response.status_code == status, response.text
    document: Json = response.json()
    schemas.SavedPrompt.model_validate(document)
    assert 1 <= int(response.headers["Darkroom-Position"]) <= site.ledger.head()
    return document


async def titles(site: Site, **query: Any) -> list[str]:
    """The list, after the views caught up."""
    return [one["title"] for one in (await site.get("/v1/prompts", **query))["results"]]


async def test_a_saved_prompt_carries_the_model_and_task_of_its_job_type(site: Site) -> None:
    prompt = await saved(site)
    assert prompt == {
        "id": prompt["id"],
        "title": "Fox",
        "prompt": "a fox in fog",
        "negative_prompt": "blurry",
        "model": "sdxl-demo",
        "job_type": "sdxl_image_fast",
        "task": "t2i",
        "tags": ["animal", "fog"],
        "usage_count": 0,
        "mean_score": None,
        "score": None,
        "created_at": "2031-05-04T12:00:00Z",
        "updated_at": "2031-05-04T12:00:00Z",
    }
    assert (await site.http.get(f"/v1/prompts/{prompt['id']}")).json() == prompt  # before any view knows it
    assert await site.get(f"/v1/prompts/{prompt['id']}") == prompt
    assert (await site.get("/v1/prompts"))["results"] == [prompt]


@pytest.mark.parametrize(
    ("named", "model", "task"),
    [
        ({"job_type": "video_fast"}, "wan-demo", "t2v"),
        ({"job_type": "video_fast", "model": "wan-demo"}, "wan-demo", "t2v"),
        ({"job_type": None, "model": "sdxl"}, "sdxl", "t2i"),
        ({"job_type": None, "model": "wan-2.2-5b"}, "wan-2.2-5b", "t2i"),
    ],
)
async def test_the_task_follows_from_what_the_prompt_is_for(
    site: Site, named: dict[str, str | None], model: str, task: str
) -> None:
    prompt = await saved(site, **named)
    assert (prompt["model"], prompt["job_type"], prompt["task"]) == (model, named["job_type"], task)


async def test_the_task_of_a_model_is_its_first_in_the_catalog(site: Site) -> None:
    for entry in (await site.get("/v1/models"))["results"]:
        assert (await saved(site, job_type=None, model=entry["name"]))["task"] == entry["tasks"][0]


async def test_usage_and_scores_come_from_the_ledger(site: Site) -> None:
    fox = await saved(site)
    other = await saved(site, title="Ship", prompt="a ship in fog")
    first = await site.finished(prompt="a fox in fog")
    await site.finished(prompt="a fox in fog", job_type="sdxl_image_high", quantity=1)
    await site.submit(prompt="a fox in fog ")
    for asset, score in zip(first["assets"], (5, 4, 2), strict=True):
        await site.http.put(f"/v1/assets/{asset['id']}/rating", json={"score": score})
    shown = await site.get(f"/v1/prompts/{fox['id']}")
    assert (shown["usage_count"], shown["mean_score"], shown["score"]) == (2, 3.6667, 3.25)
    assert {one["title"]: one["usage_count"] for one in (await site.get("/v1/prompts"))["results"]} == {
        "Fox": 2,
        "Ship": 0,
    }
    moved = await site.http.patch(f"/v1/prompts/{other['id']}", json={"prompt": "a fox in fog"})
    assert (moved.json()["usage_count"], moved.json()["score"]) == (2, 3.25)  # of the prompt as it is now
    assert (await saved(site, title="Fox again"))["usage_count"] == 2


async def test_a_read_that_names_its_write_sees_prompt_and_uses(site: Site) -> None:
    prompt = await saved(site)
    submitted = await site.http.post("/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "a fox in fog"})
    headers = {"Darkroom-Min-Position": submitted.headers["Darkroom-Position"]}
    reading = asyncio.create_task(site.http.get(f"/v1/prompts/{prompt['id']}", headers=headers))
    await asyncio.to_thread(site.project)
    assert (await reading).json()["usage_count"] == 1


async def test_what_is_absent_stays(site: Site) -> None:
    prompt = await saved(site)
    path = f"/v1/prompts/{prompt['id']}"
    for sent, changed in [
        ({"title": "Red fox"}, {"title": "Red fox"}),
        ({"prompt": "a red fox", "tags": ["red", "animal"]}, {"prompt": "a red fox", "tags": ["animal", "red"]}),
        ({"negative_prompt": None}, {"negative_prompt": None}),
        ({"negative_prompt": "text"}, {"negative_prompt": "text"}),
        ({"negative_prompt": ""}, {"negative_prompt": None}),
        ({"job_type": "video_fast"}, {"job_type": "video_fast", "model": "wan-demo", "task": "t2v"}),
        ({"model": "sdxl", "tags": []}, {"job_type": None, "model": "sdxl", "task": "t2i", "tags": []}),
        ({"job_type": "video_high", "model": "wan-demo"},
         {"job_type": "video_high", "model": "wan-demo", "task": "t2v"}),
    ]:  # fmt: skip
        site.clock.tick()
        response = await site.http.patch(path, json=sent)
        assert response.status_code == 200, response.text
        prompt |= changed | {"updated_at": site.clock().isoformat().replace("+00:00", "Z")}
        assert response.json() == prompt
        assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
        assert await site.get(path) == prompt


async def test_an_edit_that_changes_nothing_appends_nothing(site: Site) -> None:
    prompt = await saved(site)
    site.clock.tick()
    response = await site.http.patch(f"/v1/prompts/{prompt['id']}", json={"title": "Fox", "tags": ["animal", "fog"]})
    assert (response.status_code, response.json(), site.ledger.head()) == (200, prompt, 1)


async def test_a_deleted_prompt_is_gone_and_its_history_stays(site: Site) -> None:
    prompt = await saved(site)
    path = f"/v1/prompts/{prompt['id']}"
    gone = await site.http.delete(path)
    assert (gone.status_code, gone.content, gone.headers["Darkroom-Position"]) == (204, b"", "2")
    assert (await site.http.delete(path)).status_code == 204
    assert await titles(site) == []
    for response in (await site.http.get(path), await site.http.patch(path, json={"title": "x"})):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert [event.name for event in site.ledger.stream(UUID(prompt["id"]))] == ["prompt.saved", "prompt.deleted"]


async def test_the_list_is_filtered_and_searched(site: Site) -> None:
    await saved(site)
    await saved(site, title="Harbour", prompt="a ship at night", job_type="video_fast", tags=["sea"])
    await saved(
        site, title="Lighthouse", prompt="a lighthouse in fog", job_type=None, model="sdxl", tags=["sea", "fog"]
    )
    for query, found in [
        ({}, ["Lighthouse", "Harbour", "Fox"]),
        ({"task": "t2i"}, ["Lighthouse", "Fox"]),
        ({"task": "t2v"}, ["Harbour"]),
        ({"task": "i2v"}, []),
        ({"tag": "sea"}, ["Lighthouse", "Harbour"]),
        ({"tag": "sea", "task": "t2i"}, ["Lighthouse"]),
        ({"q": "fog"}, ["Lighthouse", "Fox"]),
        ({"q": "fog -animal"}, ["Lighthouse"]),
        ({"q": '"at night" harbour'}, ["Harbour"]),
    ]:
        assert await titles(site, **query) == found, query


async def test_the_list_pages_while_prompts_are_saved(site: Site) -> None:
    for number in range(5):
        await saved(site, title=str(number))
    first = await site.get("/v1/prompts", limit=2)
    await saved(site, title="new")
    second = await site.get("/v1/prompts", limit=2, cursor=first["next"])
    third = await site.get("/v1/prompts", limit=2, cursor=second["next"])
    pages = first["results"] + second["results"] + third["results"]
    assert [one["title"] for one in pages] == ["4", "3", "2", "1", "0"]
    assert third["next"] is None


async def test_the_same_key_and_body_again_is_the_same_prompt(site: Site) -> None:
    prompt = await saved(site, key="fox-1")
    assert await saved(site, 200, key="fox-1") == prompt
    assert (await saved(site, key="fox-2"))["id"] != prompt["id"]
    job = await site.http.post(
        "/v1/jobs", json={"job_type": "video_fast", "prompt": "x"}, headers={"Idempotency-Key": "fox-1"}
    )
    assert job.status_code == 202  # the same key names one of each
    response = await site.http.post("/v1/prompts", json=FOX | {"title": "Cat"}, headers={"Idempotency-Key": "fox-1"})
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    await site.http.patch(f"/v1/prompts/{prompt['id']}", json={"title": "Renamed"})
    assert (await saved(site, 200, key="fox-1"))["title"] == "Renamed"
    await site.http.delete(f"/v1/prompts/{prompt['id']}")
    response = await site.http.post("/v1/prompts", json=FOX, headers={"Idempotency-Key": "fox-1"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_the_same_key_at_the_same_time_is_one_prompt(site: Site) -> None:
    answers: list[httpx.Response] = await asyncio.gather(
        *(site.http.post("/v1/prompts", json=FOX, headers={"Idempotency-Key": "k"}) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["id"] for answer in answers}) == site.ledger.head() == 1


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"title": ""}, "title", "at least 1"),
        ({"title": "x" * 201}, "title", "at most 200"),
        ({"title": None}, "title", "string"),
        ({"prompt": " "}, "prompt", "can be seen"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt", "at most 10000"),
        ({"job_type": "flux"}, "job_type", "allowed: image7b_fast_enhanced"),
        ({"job_type": None, "model": "dall-e"}, "model", "allowed: sdxl, sdxl-demo"),
        ({"job_type": "video_fast", "model": "sdxl"}, "model", "the job type video_fast has the model wan-demo"),
        ({"tags": ["x" * 65]}, "tags.0", "at most 64"),
        ({"tags": ["x"] * 21}, "tags", "at most 20"),
        ({"task": "t2v"}, "task", "unknown field"),
    ],
)
async def test_a_bad_prompt_is_refused_with_its_path(
    site: Site, changes: dict[str, Any], path: str, words: str
) -> None:
    changes = {name: value for name, value in changes.items() if (name, value) != ("job_type", None)}
    fox = {name: value for name, value in FOX.items() if name != "job_type" or "model" not in changes}
    response = await site.http.post("/v1/prompts", json=fox | changes)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input"), response.text
    assert {one["path"]: words in one["detail"] for one in response.json()["errors"]} == {path: True}
    prompt = await saved(site)
    response = await site.http.patch(f"/v1/prompts/{prompt['id']}", json=changes)
    assert (response.status_code, [one["path"] for one in response.json()["errors"]]) == (422, [path])
    assert site.ledger.head() == 1


async def test_a_prompt_is_for_something_and_an_edit_says_what(site: Site) -> None:
    response = await site.http.post("/v1/prompts", json={"title": "Fox", "prompt": "a fox"})
    assert (response.status_code, [one["path"] for one in response.json()["errors"]]) == (422, ["model"])
    prompt = await saved(site)
    for sent in ({}, {"job_type": None}, {"model": None}, {"tags": None}):
        response = await site.http.patch(f"/v1/prompts/{prompt['id']}", json=sent)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    for query in ({"task": "t2x"}, {"limit": 0}, {"cursor": "x"}, {"tag": "a\0"}):
        assert (await site.http.get("/v1/prompts", params=query)).status_code == 422
    bad_key = await site.http.post("/v1/prompts", json=FOX, headers={"Idempotency-Key": "a b"})
    assert (bad_key.status_code, bad_key.json()["code"]) == (422, "idempotency_key_invalid")
    assert (await site.http.request("DELETE", f"/v1/prompts/{prompt['id']}", json={"why": "x"})).status_code == 422


async def test_somebody_elses_prompt_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    theirs = uuid4()
    asked = SavePrompt("bob", "Cat", "a cat", None, "sdxl", None, Task.TEXT_TO_IMAGE, (), site.clock())
    await asyncio.to_thread(site.ledger.execute, PROMPT, theirs, asked, Context("bob", "bob"))
    job = await site.submit(prompt="a cat")
    for identifier in (str(theirs), str(uuid4()), job["id"], "x"):
        path = f"/v1/prompts/{identifier}"
        for response in (
            await site.http.get(path),
            await site.http.patch(path, json={"title": "mine"}),
            await site.http.delete(path),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
            assert response.json()["detail"] == f"There is no prompt {identifier}."
    assert await titles(site) == []
    assert (await saved(site, prompt="a cat"))["usage_count"] == 1  # the owner's jobs alone


async def test_nothing_is_saved_while_nats_is_away(site: Site) -> None:
    prompt = await saved(site)
    await site.parts.broker.close()
    await until(lambda: not site.parts.broker.connected)
    for method, path in (("POST", ""), ("PATCH", f"/{prompt['id']}"), ("DELETE", f"/{prompt['id']}")):
        sent = {"POST": FOX, "PATCH": {"title": "x"}}.get(method)
        response = await site.http.request(method, f"/v1/prompts{path}", json=sent)
        assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
    assert site.ledger.head() == 1
