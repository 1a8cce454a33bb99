"""What people search for is found, or refused with a reason: in every script, form and odd spelling."""

import asyncio
import time
from contextlib import suppress
from statistics import median
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.batches.commands import open_batch
from api.http.idempotency import asked_by
from domain.errors import InvalidInput
from domain.json_type import Json
from projections.reads import jobs as reads
from projections.reads.batches import BatchFilter, list_batches
from projections.reads.jobs import LibraryFilter
from projections.reads.scores import PromptFilter, list_prompts
from services.views.owned_views import OwnedViews
from tests.api.batching import batch, item, opened
from tests.api.serving import Site

LISTS = ("/v1/library", "/v1/prompts", "/v1/batches")

FOUND = [
    ("a fox 🦊 at dusk", "🦊"),
    ("an astronaut 👩🏽\u200d🚀 on the moon", "👩\u200d🚀"),
    ("flags 🇫🇷 in the wind", "🇫🇷"),
    ("an arrow → to the right", "→"),
    ("five € in the snow", "€"),
    ("ภาพแมวสวย", "แมว"),
    ("မြန်မာ ကြောင်လေး", "ကြောင်"),
    ("ឆ្មាស្អាត", "ឆ្មា"),
    ("一只猫在屋顶上", "猫"),
    ("屋根の上のネコ", "ネコ"),
    ("café au lait", "cafe\u0301"),
    ("cafe\u0301 au lait", "café"),
    ("\uff37\uff29\uff24\uff25 letters", "wide"),
    ("किताब पढ़ती लड़की", "किताब"),
    ("חתול על הגג", "חתול"),
    ("black/white <lora:fog>", "fog"),
]


WITHOUT_A_WORD = ["-" * 500, "<->" * 160, '"' * 500, '"- ' * 160, "!!!", "\u200b", "()&|!:*", "%", "-", '""']


async def kept(site: Site, text: str) -> None:
    """One of each that a list can find by this text: an asset, a saved prompt, a batch."""
    await site.finished(prompt=text, quantity=1)
    saved = await site.http.post("/v1/prompts", json={"title": "t", "prompt": text, "job_type": "sdxl_image_fast"})
    assert saved.status_code == 201, saved.text
    await opened(site, batch(item("A"), name=text))


async def found(site: Site, path: str, q: str) -> list[Json]:
    """What a list finds."""
    return (await site.get(path, q=q))["results"]


@pytest.mark.parametrize(("text", "words"), FOUND)
async def test_words_of_every_script_are_found(site: Site, text: str, words: str) -> None:
    await kept(site, text)
    await kept(site, "nothing of the kind")
    for path in LISTS:
        assert len(await found(site, path, words)) == 1, path
        (other,) = await found(site, path, f"-{words}")
        assert text not in str(other)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "q", ["-" * 500, "<->" * 160, '"' * 500, '"- ' * 160, "!!!", "\u200b", "()&|!:*", "%", "-", '""']
)
async def test_a_search_without_a_word_is_refused(site: Site, path: str, q: str) -> None:
    response = await site.http.get(path, params={"q": q})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    (problem,) = response.json()["errors"]
    assert problem["path"] == "q"


@pytest.mark.parametrize("path", LISTS)
async def test_a_blank_search_is_no_search(site: Site, path: str) -> None:
    await kept(site, "a fox")
    assert len(await found(site, path, "")) == len(await found(site, path, "  ")) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from("abc -\"'<>()&|!:*\\\\🦊猫แ\u0301\u200dor"), min_size=1, max_size=500))
def test_a_search_is_answered_or_refused_and_never_fails(owned_views: OwnedViews, text: str) -> None:
    for ask in (
        lambda connection: reads.list_library(connection, "admin", LibraryFilter(words=text), before=None, limit=1),
        lambda connection: list_batches(connection, "admin", BatchFilter(words=text), before=None, limit=1),
        lambda connection: list_prompts(connection, "admin", PromptFilter(words=text)),
    ):
        with suppress(InvalidInput), owned_views.of("admin") as connection:
            assert ask(connection) == []


# Tags.


async def test_a_jobs_tags_are_those_of_its_assets_and_find_both(site: Site) -> None:
    tagged = await site.finished(quantity=3, tags=["winter", "cafe\u0301"])
    other = await site.finished(quantity=1)
    assert [asset["tags"] for asset in tagged["assets"]] == [["café", "winter"]] * 3
    for tag in ("winter", "café", "cafe\u0301"):
        assert [job["id"] for job in (await site.get("/v1/jobs", tag=tag))["results"]] == [tagged["id"]]
        assert {asset["job_id"] for asset in (await site.get("/v1/library", tag=tag))["results"]} == {tagged["id"]}
    assert {asset["job_id"] for asset in (await site.get("/v1/library", q="café"))["results"]} == {tagged["id"]}
    assert (await site.get("/v1/jobs", tag="autumn"))["results"] == []
    assert [job["id"] for job in (await site.get("/v1/jobs"))["results"]] == [other["id"], tagged["id"]]


async def test_tags_of_a_job_can_be_taken_from_an_asset(site: Site) -> None:
    job = await site.finished(quantity=1, tags=["winter"])
    asset = job["assets"][0]["id"]
    for tags in ([], ["fox"], []):
        changed = await site.http.patch(f"/v1/assets/{asset}", json={"tags": tags})
        assert changed.json()["tags"] == tags
        assert (await site.get(f"/v1/assets/{asset}"))["tags"] == tags
    assert (await site.get("/v1/library", tag="winter"))["results"] == []


async def test_jobs_of_a_tag_come_in_pages_and_with_other_filters(site: Site) -> None:
    jobs = [await site.submit(quantity=1, tags=["winter"] if number % 2 else ["summer"]) for number in range(9)]
    wanted = [job["id"] for job in jobs[1::2]][::-1]
    seen, cursor = [], None
    while True:
        page = await site.get("/v1/jobs", tag="winter", limit=3, **({} if cursor is None else {"cursor": cursor}))
        seen += [job["id"] for job in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == wanted
    assert [job["id"] for job in (await site.get("/v1/jobs", tag="winter", status="queued"))["results"]] == wanted
    assert (await site.get("/v1/jobs", tag="winter", status="failed"))["results"] == []


# What is no query parameter, and what shows nothing.


@pytest.mark.parametrize(
    ("path", "query", "names"),
    [
        ("/v1/jobs", {"tags": "x"}, ["tags"]),
        ("/v1/jobs", {"Status": "queued", "limit": "1", "sort": "asc"}, ["Status", "sort"]),
        ("/v1/library", {"min_rating": "3"}, ["min_rating"]),
        ("/v1/models", {"q": "x"}, ["q"]),
        ("/v1/events", {"after": "3"}, ["after"]),
        ("/v1/jobs", {"x" * 5_000: "1"}, ["x" * 64]),
    ],
)
async def test_an_unknown_query_parameter_is_refused_by_name(
    site: Site, path: str, query: dict[str, str], names: list[str]
) -> None:
    response = await site.http.get(path, params=query)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert [problem["path"] for problem in response.json()["errors"]] == names


async def test_a_query_parameter_that_is_there_twice_is_refused(site: Site) -> None:
    response = await site.http.get("/v1/jobs?limit=1&tag=a&limit=2&tag=b&tag=c&status=queued")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    problems = {one["path"]: one["detail"] for one in response.json()["errors"]}
    assert problems == {"limit": "is there 2 times; give it once", "tag": "is there 3 times; give it once"}


async def test_an_unknown_query_parameter_of_a_write_changes_nothing(site: Site) -> None:
    response = await site.http.post("/v1/jobs?quantity=3", json=item(None))
    assert response.status_code == 422
    assert site.ledger.head() == 0


BLANK = "\u200b \u2800\u3164\ufe0f"


@pytest.mark.parametrize(
    ("method", "path", "content", "field"),
    [
        ("POST", "/v1/jobs", {"prompt": BLANK}, "prompt"),
        ("POST", "/v1/jobs", {"tags": ["a", BLANK]}, "tags.1"),
        ("POST", "/v1/enhance", {"prompt": BLANK, "job_type": "sdxl_image_fast"}, "prompt"),
        ("POST", "/v1/prompts", {"title": BLANK, "prompt": "a fox", "job_type": "sdxl_image_fast"}, "title"),
        ("POST", "/v1/batches", {"name": BLANK, "items": [{}]}, "name"),
        ("POST", "/v1/batches", {"name": "a", "collection": BLANK, "items": [{}]}, "collection"),
        ("PATCH", "/v1/assets/{asset}", {"title": BLANK}, "title"),
        ("PATCH", "/v1/assets/{asset}", {"tags": [BLANK]}, "tags.0"),
    ],
)
async def test_text_that_shows_nothing_is_refused(
    site: Site, method: str, path: str, content: Json, field: str
) -> None:
    asset = (await site.finished(quantity=1))["assets"][0]["id"]
    head = site.ledger.head()
    whole = item(None) | content if path == "/v1/jobs" else content
    response = await site.http.request(method, path.format(asset=asset), json=whole)
    assert response.status_code == 422, response.text
    assert [problem["path"] for problem in response.json()["errors"]] == [field]
    assert site.ledger.head() == head


async def test_another_users_batch_is_refused_as_fast_as_an_unknown_one(site: Site) -> None:
    asked = asked_by("eve", Headers({}), site.clock())
    items = [item("Fox") for _ in range(1_000)]
    foreign = await asyncio.to_thread(open_batch, site.parts, asked, {"name": "Theirs", "items": items})
    await asyncio.to_thread(site.project)

    async def seconds(identifier: object) -> float:
        began = time.perf_counter()
        assert (await site.http.get(f"/v1/batches/{identifier}")).status_code == 404
        return time.perf_counter() - began

    pairs = [(await seconds(foreign.document["id"]), await seconds(uuid4())) for _ in range(15)]
    ratio = median(theirs / unknown for theirs, unknown in pairs)
    assert ratio < 4, (
        f"another user's batch of 1,000 items takes {ratio:.1f} times as long"
    )  # 20 and more if it is folded
