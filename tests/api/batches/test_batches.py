"""Batches over HTTP: one bad item never stops the others, and everything afterwards is about real jobs."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.aggregates.batch import ITEMS_MAX
from domain.aggregates.job import Waiting
from domain.json_type import Json
from services.gc_tuning import keep_what_is_loaded
from tests.api.batching import batch, counts, finish, item, job_of, opened, uploaded
from tests.api.serving import Site, body

# Opening.


async def test_each_item_becomes_a_job_of_the_batch(site: Site) -> None:
    content = batch(item("Fox", tags=["red"], priority=3), item("Owl", quantity=3, seed=7))
    response = await site.http.post("/v1/batches", json=content, headers={"Cancel-After": "5m"})
    assert response.status_code == 202
    document = response.json()
    assert (document["kind"], document["name"], document["collection"]) == ("batch", "Foxes", "Autumn")
    assert document["counts"] == counts(queued=2)
    assert [set(one) for one in document["items"]] == [{"index", "template", "saved", "job_id"}] * 2
    assert [(one["index"], one["template"], one["saved"]) for one in document["items"]] == [
        (0, "Fox", True),
        (1, "Owl", True),
    ]
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head() == 3 + 2 + 4
    fox, owl = [await job_of(site, one) for one in document["items"]]
    assert (fox["batch_id"], fox["tags"], fox["priority"]) == (document["id"], ["red"], 3)
    assert [asset["title"] for asset in owl["assets"]] == ["Autumn - Owl"] * 3
    assert (owl["seed"], owl["quantity"]) == (7, 3)
    state = site.ledger.generation(UUID(fox["id"])).job
    assert isinstance(state, Waiting)
    assert (state.queued.deadline, state.queued.title) == (site.clock.now.replace(minute=5), "Autumn - Fox")
    listed = await site.get("/v1/jobs", batch_id=document["id"])
    assert {job["id"] for job in listed["results"]} == {fox["id"], owl["id"]}


@pytest.mark.parametrize(
    ("collection", "template", "title"),
    [("Autumn", "Fox", "Autumn - Fox"), (None, "Fox", "Fox"), ("Autumn", None, "Autumn"), (None, None, None)],
)
async def test_assets_are_called_by_collection_and_template(
    site: Site, collection: str | None, template: str | None, title: str | None
) -> None:
    document = await opened(site, batch(item(template), collection=collection))
    (asset,) = (await site.get(f"/v1/batches/{document['id']}"))["items"][0]["assets"]
    assert asset["title"] == title


BAD_ITEMS: list[tuple[Any, str, str]] = [
    (item("Fox", job_type="flux"), "job_type", "unknown job type"),
    (item("Fox", quantity=2), "quantity", "1, 3, 6"),
    (item("Fox", prompt=""), "prompt", "1"),
    (item("Fox", params={"steps": 0}), "params.steps", "1 to 100"),
    (item("Fox", colour="red"), "colour", "unknown"),
    (item("Fox", batch_id=str(uuid4())), "batch_id", "unknown"),
    (item("Fox", prompt="a\0b"), "prompt", "NUL"),
    (item("Fox", job_type="video_fast", media={"image": f"media:{uuid4()}"}), "media.image", "there is no media"),
    (item("Fox", references=[{"type": "style", "source": "x", "strength": 0.5}]), "references.0.source", "must be"),
    (item("", priority=3), "template", "at least 1"),
    (item("x" * 101), "template", "100"),
    (item("Fox") | {"template": 7}, "template", "string"),
    ("a lighthouse", "item", "JSON object"),
    (None, "item", "JSON object"),
    ([], "item", "JSON object"),
    ({}, "prompt", "required"),
]


@pytest.mark.parametrize(("bad", "path", "words"), BAD_ITEMS)
async def test_a_bad_item_says_why_and_stops_no_other(site: Site, bad: Any, path: str, words: str) -> None:
    document = await opened(site, batch(item("Owl"), bad, item("Hare")))
    owl, rejected, hare = document["items"]
    assert (owl["saved"], hare["saved"], rejected["index"], rejected["saved"]) == (True, True, 1, False)
    assert "job_id" not in rejected
    error = rejected["error"]
    assert (error["code"], error["status"], error["title"]) == ("invalid_input", 422, "Invalid input")
    assert words in {one["path"]: one["detail"] for one in error["errors"]}.get(path, ""), error
    assert document["counts"] == counts(queued=2, rejected=1)
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == document["counts"]
    assert shown["items"][1] == rejected | {"status": "rejected"}


async def test_every_problem_of_an_item_is_reported_and_a_flood_is_cut(site: Site) -> None:
    many = {f"field_{number}": "x" for number in range(200)}
    document = await opened(site, batch(item("", quantity=2, seed=-1), item("Fox", **many)))
    first, second = [one["error"] for one in document["items"]]
    assert {one["path"] for one in first["errors"]} == {"template", "quantity", "seed"}
    assert len(second["errors"]) == 20
    assert len(second["detail"]) <= 1_000


async def test_a_batch_of_bad_items_alone_is_a_batch_too(site: Site) -> None:
    document = await opened(site, batch({}, "x"))
    assert document["counts"] == counts(rejected=2)
    assert site.ledger.head() == 3


BAD_ENVELOPES: list[tuple[Json, str]] = [
    ({"items": [item("Fox")]}, "name"),
    (batch(item("Fox"), name=""), "name"),
    (batch(item("Fox"), name=" "), "name"),
    (batch(item("Fox"), name="x" * 201), "name"),
    (batch(item("Fox"), name="a\0b"), "name"),
    (batch(item("Fox"), collection="x" * 101), "collection"),
    ({"name": "Foxes"}, "items"),
    (batch(), "items"),
    (batch(items={}), "items"),
    (batch(*[{}] * (ITEMS_MAX + 1)), "items"),
    (batch(item("Fox"), colour="red"), "colour"),
    (batch(item("Fox"), prompt="a fox"), "prompt"),
    (batch(item("Fox"), kind="film"), "kind"),
    (batch(item("Fox"), kind=[]), "kind"),
    (batch(item("Fox"), base="fox.png"), "base"),
    (batch(item("Fox"), base=f"media:{uuid4()}"), "base"),
    (batch(item("Fox"), base=7), "base"),
]


@pytest.mark.parametrize(("content", "path"), BAD_ENVELOPES)
async def test_a_bad_envelope_is_refused_as_a_whole(site: Site, content: Json, path: str) -> None:
    response = await site.http.post("/v1/batches", json=content)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input"), response.text
    assert path in {one["path"] for one in response.json()["errors"]}
    assert site.ledger.head() == 0


async def test_what_is_no_json_or_too_much_of_it(site: Site) -> None:
    json = {"content-type": "application/json"}
    assert (await site.http.post("/v1/batches", content=b"{", headers=json)).status_code == 400
    assert (await site.http.post("/v1/batches", content=b"[]", headers=json)).status_code == 422
    assert (await site.http.post("/v1/batches", content=b"{}", headers={})).status_code == 415
    assert (await site.http.post("/v1/batches", content=b" " * (8 * 1024**2 + 1), headers=json)).status_code == 413


async def test_an_item_that_nests_without_end(site: Site) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    raw = f'{{"name": "Foxes", "items": [{{"prompt": "a fox", "params": {deep}}}, {{"prompt": {deep}}}]}}'.encode()
    json = {"content-type": "application/json"}
    response = await site.http.post("/v1/batches", content=raw, headers=json)
    assert (response.status_code, response.json()["counts"]) == (202, counts(rejected=2))
    for status in (202, 200):
        response = await site.http.post("/v1/batches", content=raw, headers=json | {"Idempotency-Key": "deep"})
        assert (response.status_code, response.json()["counts"]) == (status, counts(rejected=2))


# The base picture.


async def test_a_base_is_what_every_item_starts_from(site: Site) -> None:
    base = uploaded(site)
    content = batch(item("Fox"), item("Film", job_type="video_fast"), base=base)
    document = await opened(site, content)
    assert document["base"] == base
    picture, film = [await job_of(site, one) for one in document["items"]]
    assert picture["references"] == [{"type": "composition", "source": base, "strength": 0.5}]
    assert (picture["task"], film["task"], film["media"]) == ("i2i", "i2v", {"image": base})
    media = site.ledger.media(UUID(base.removeprefix("media:")))
    assert media.used_by == UUID(picture["id"])


async def test_what_an_item_brings_itself_wins_over_the_base(site: Site) -> None:
    base = uploaded(site)
    own = [{"type": "composition", "source": base, "strength": 0.9}]
    document = await opened(site, batch(item("Fox", references=own), base=base))
    assert (await job_of(site, document["items"][0]))["references"] == own


async def test_an_item_whose_model_starts_from_no_picture_says_so(site: Site) -> None:
    document = await opened(site, batch(item("Fox", job_type="image_fast"), item("Owl"), base=uploaded(site)))
    rejected, owl = document["items"]
    assert owl["saved"]
    (problem,) = rejected["error"]["errors"]
    assert (problem["path"], "starts from no picture" in problem["detail"]) == ("base", True)


async def test_a_base_of_somebody_else_or_of_another_kind(site: Site) -> None:
    for base in (uploaded(site, owner="bob"), uploaded(site, "audio", "audio/wav")):
        head = site.ledger.head()
        response = await site.http.post("/v1/batches", json=batch(item("Fox"), base=base))
        assert response.status_code == 422
        assert [one["path"] for one in response.json()["errors"]] == ["base"]
        assert site.ledger.head() == head


# The same request twice.


async def test_the_same_key_and_body_are_the_same_batch(site: Site) -> None:
    content = batch(item("Fox", seed=None), {}, item("Owl"))
    first = await opened(site, content, **{"Idempotency-Key": "form-17"})
    head = site.ledger.head()
    await finish(site, first["items"][0])
    await asyncio.to_thread(site.project)
    again = await site.http.post("/v1/batches", json=content, headers={"Idempotency-Key": "form-17"})
    assert again.status_code == 200
    assert again.json()["items"] == first["items"]
    assert again.json()["created_at"] == first["created_at"]
    assert again.json()["counts"] == counts(succeeded=1, queued=1, rejected=1)
    assert int(again.headers["Darkroom-Position"]) == 4
    other = await site.http.post("/v1/batches", json=batch(item("Fox")), headers={"Idempotency-Key": "form-17"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert site.ledger.head() == head + 3


async def test_the_same_key_at_the_same_time_is_one_batch(site: Site) -> None:
    content = batch(item("Fox", seed=None), item("Owl"), {})
    headers = {"Idempotency-Key": "form-17"}
    sent = [site.http.post("/v1/batches", json=content, headers=headers) for _ in range(6)]
    responses = await asyncio.gather(*sent)
    assert sorted(response.status_code for response in responses) == [200] * 5 + [202]
    assert len({str(response.json()["items"]) for response in responses}) == 1
    assert site.ledger.head() == 4 + 2 * 2


async def test_one_key_may_name_a_job_and_a_batch(site: Site) -> None:
    headers = {"Idempotency-Key": "form-17"}
    job = await site.http.post("/v1/jobs", json=body(), headers=headers)
    document = await opened(site, batch(item("Fox")), **headers)
    assert job.status_code == 202
    assert document["id"] != job.json()["id"]


# Looking.


async def test_counts_follow_what_workers_do(site: Site) -> None:
    document = await opened(site, batch(*[item(name, quantity=3) for name in "ABCDE"]))
    path = f"/v1/batches/{document['id']}"
    a, b, c, d, _ = document["items"]
    assert (await site.get(path))["counts"] == counts(queued=5)
    await finish(site, a)
    await finish(site, b, fail=(0, 1, 2))
    await finish(site, c, fail=(1,))
    await site.start(await job_of(site, d))
    shown = await site.get(path)
    assert shown["counts"] == counts(succeeded=1, failed=1, partially_succeeded=1, processing=1, queued=1)
    statuses = ["succeeded", "failed", "partially_succeeded", "processing", "queued"]
    assert [one["status"] for one in shown["items"]] == statuses
    assert [asset["status"] for asset in shown["items"][2]["assets"]] == ["completed", "failed", "completed"]
    assert {asset["batch_id"] for one in shown["items"] for asset in one["assets"]} == {document["id"]}


async def test_a_batch_is_found_as_soon_as_the_views_know_it(site: Site) -> None:
    document = await opened(site, batch(item("Fox"), {}))
    reading = asyncio.create_task(site.http.get(f"/v1/batches/{document['id']}"))
    await asyncio.to_thread(site.project)
    response = await reading
    assert response.status_code == 200
    assert response.json()["counts"] == counts(queued=1, rejected=1)


async def test_a_read_waits_for_the_position_it_names(site: Site) -> None:
    headers = {"Darkroom-Min-Position": "99"}
    waiting = asyncio.create_task(site.http.get("/v1/batches", headers=headers))
    await opened(site, batch(*[item("Fox")] * 40))
    await asyncio.to_thread(site.project)
    response = await waiting
    assert (response.status_code, len(response.json()["results"])) == (200, 1)


async def test_the_list_is_newest_first_and_its_cursors_are_stable(site: Site) -> None:
    names = [(await opened(site, batch(item("Fox"), name=f"Batch {number}")))["name"] for number in range(5)]
    first = await site.get("/v1/batches", limit=2)
    await opened(site, batch(item("Fox"), name="Later"))
    second = await site.get("/v1/batches", limit=2, cursor=first["next"])
    third = await site.get("/v1/batches", limit=2, cursor=second["next"])
    shown = [one["name"] for page in (first, second, third) for one in page["results"]]
    assert (shown, third["next"]) == (names[::-1], None)
    assert "items" not in first["results"][0]
    assert first["results"][0]["counts"] == counts(queued=1)
    assert (await site.http.get("/v1/batches", params={"cursor": "x"})).status_code == 422


async def test_the_list_is_filtered_by_collection_kind_and_words(site: Site) -> None:
    await opened(site, batch(item("Winter fox"), name="One", collection="Autumn"))
    await opened(site, batch(item("Owl"), name="Two of them", collection="Spring"))
    await opened(site, {"kind": "comparison", "prompt": "a hare", "variants": [{}, {}]})

    async def found(**query: str) -> list[str]:
        return [one["name"] for one in (await site.get("/v1/batches", **query))["results"]]

    assert await found(collection="Autumn") == ["One"]
    assert await found(collection="autumn") == []
    assert await found(kind="comparison") == ["a hare"]
    assert await found(q="FOX") == ["One"]
    assert await found(q="two") == ["Two of them"]
    assert await found(q="spring") == ["Two of them"]
    assert await found(q="badger") == []
    assert await found(q="owl", collection="Autumn") == []
    assert (await site.http.get("/v1/batches", params={"kind": "film"})).status_code == 422
    assert (await site.http.get("/v1/batches", params={"q": "a\0b"})).status_code == 422


# Renaming.


async def test_a_batch_is_renamed_and_found_under_its_new_name(site: Site) -> None:
    document = await opened(site, batch(item("Fox")))
    path = f"/v1/batches/{document['id']}"
    await asyncio.to_thread(site.project)
    response = await site.http.patch(path, json={"name": "Vixens"})
    assert (response.status_code, response.json()["name"]) == (200, "Vixens")
    head = site.ledger.head()
    assert int(response.headers["Darkroom-Position"]) == head
    assert (await site.get(path))["name"] == "Vixens"
    assert [one["id"] for one in (await site.get("/v1/batches", q="vixens"))["results"]] == [document["id"]]
    assert (await site.get("/v1/batches", q="foxes"))["results"] == []
    assert (await site.http.patch(path, json={"name": "Vixens"})).status_code == 200
    assert site.ledger.head() == head


@pytest.mark.parametrize("content", [{}, {"name": ""}, {"name": None}, {"name": "x" * 201}, {"name": "A", "base": "B"}])
async def test_a_name_that_is_invalid(site: Site, content: Json) -> None:
    document = await opened(site, batch(item("Fox")))
    head = site.ledger.head()
    response = await site.http.patch(f"/v1/batches/{document['id']}", json=content)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert site.ledger.head() == head


# Whose it is.


async def test_what_is_somebody_elses_is_as_unknown_as_what_never_was(site: Site, http: httpx.AsyncClient) -> None:
    theirs = site.batch_as("bob")
    await asyncio.to_thread(site.project)
    head = site.ledger.head()
    texts = set()
    for identifier in (theirs, uuid4()):
        path = f"/v1/batches/{identifier}"
        preference = {"winner": str(uuid4()), "loser": str(uuid4())}
        for response in (
            await http.get(path),
            await http.patch(path, json={"name": "Mine"}),
            await http.post(f"{path}/cancel"),
            await http.post(f"{path}/retry"),
            await http.post(f"{path}/retry", json={"items": [0]}),
            await http.post(f"{path}/preferences", json=preference),
        ):
            assert response.status_code == 404
            texts.add(response.text.replace(str(identifier), "ID"))
    assert len(texts) == 1
    assert (await site.get("/v1/batches"))["results"] == []
    assert (await http.get("/v1/batches/nothing")).status_code == 404
    assert site.ledger.head() == head


# How fast.


async def test_a_thousand_items_are_accepted_within_seconds_while_others_are_served(site: Site) -> None:
    base = uploaded(site)
    content = batch(*[item(f"Template {number}", seed=number) for number in range(ITEMS_MAX)], base=base)
    await opened(site, batch(item("warm")))
    stalls: list[float] = []
    over = asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            before = time.process_time()  # not the clock: other processes may have both cores for seconds
            await asyncio.sleep(0.005)
            stalls.append(time.process_time() - before)

    keep_what_is_loaded()  # as a service does; a collection of all that the tests left takes seconds
    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    document = await opened(site, content)
    seconds = time.perf_counter() - began
    over.set()
    await watching
    assert document["counts"] == counts(queued=ITEMS_MAX)
    assert seconds < 60, f"{seconds:.1f} s"
    assert max(stalls) < 1, f"the event loop stood still for {max(stalls):.2f} s"
    print(f"1,000 items in {seconds:.2f} s; longest stall {max(stalls) * 1000:.0f} ms")
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == counts(queued=ITEMS_MAX)
