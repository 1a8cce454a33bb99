"""The library and the trash: what is found, in which order, and that no page loses or doubles anything."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from starlette.datastructures import Headers

from api.http.idempotency import asked_by
from api.http.pages import cursor_of
from api.jobs.draft import draft_of
from api.jobs.submission import (
    submission_of,
)
from domain.json_type import Json
from projections.reads.jobs import LibraryFilter, list_library
from services.ledger import JOB, Context
from services.views.owned_views import OwnedViews
from tests.api.serving import Site, body


async def one_asset(site: Site, **changes: Any) -> str:
    """The id of a completed asset."""
    identifier: str = (await site.finished(quantity=1, **changes))["assets"][0]["id"]
    return identifier


async def change(site: Site, method: str, path: str, sent: Json | None = None) -> None:
    """A change that is taken."""
    response = await site.http.request(method, path, json=sent)
    assert response.status_code in {200, 204}, response.text


async def ids(site: Site, path: str = "/v1/library", **query: Any) -> list[str]:
    """Which assets a list shows, in order."""
    return [asset["id"] for asset in (await site.get(path, **query))["results"]]


async def pages(site: Site, path: str, between: Sequence[tuple[str, str, Json | None]], **query: Any) -> list[str]:
    """The assets of all pages of two, with a change after each page as long as there are any."""
    seen: list[str] = []
    changes = iter(between)
    cursor: Json = {}
    while True:
        page = await site.get(path, limit=2, **cursor, **query)
        seen += [asset["id"] for asset in page["results"]]
        if page["next"] is None:
            return seen
        cursor = {"cursor": page["next"]}
        if (one := next(changes, None)) is not None:
            await change(site, *one)


# Trash.


async def test_a_restored_asset_is_back_at_its_place_in_both_lists(site: Site) -> None:
    first, second, third = [await one_asset(site) for _ in range(3)]
    await change(site, "DELETE", f"/v1/assets/{second}")
    for path in ("/v1/library", "/v1/workspace"):
        assert await ids(site, path) == [third, first]
    await change(site, "POST", f"/v1/assets/{second}/restore")
    for path in ("/v1/library", "/v1/workspace"):
        assert await ids(site, path) == [third, second, first]


async def test_what_was_dismissed_before_it_was_trashed_stays_dismissed_when_restored(site: Site) -> None:
    asset = await one_asset(site)
    await change(site, "DELETE", f"/v1/workspace/{asset}")
    await change(site, "DELETE", f"/v1/assets/{asset}")
    assert (await ids(site), await ids(site, "/v1/workspace")) == ([], [])
    await change(site, "POST", f"/v1/assets/{asset}/restore")
    assert (await ids(site), await ids(site, "/v1/workspace")) == ([asset], [])


async def test_the_trash_is_listed_and_filtered_like_the_library(site: Site) -> None:
    kept, old, fog, ship = [await one_asset(site, prompt=prompt) for prompt in ("kept fog", "old", "fog", "a ship")]
    await change(site, "PUT", f"/v1/assets/{ship}/saved")
    for asset in (ship, old, fog):
        await change(site, "DELETE", f"/v1/assets/{asset}")
    assert await ids(site, trashed="true") == [ship, fog, old]
    assert await ids(site, trashed="true", q="fog") == [fog]
    assert await ids(site, trashed="true", saved="true") == [ship]
    assert await ids(site, trashed="false") == [kept]
    restored = [("POST", f"/v1/assets/{ship}/restore", None)]
    assert await pages(site, "/v1/library", restored, trashed="true") == [ship, fog, old]
    assert await ids(site) == [ship, kept]


# Pages.


async def test_pages_neither_lose_nor_double_what_is_there_while_much_changes(site: Site) -> None:
    assets = [await one_asset(site) for _ in range(10)][::-1]
    trashed_before = assets[3]
    await change(site, "DELETE", f"/v1/assets/{trashed_before}")
    seen = await pages(
        site,
        "/v1/library",
        [
            ("POST", f"/v1/assets/{trashed_before}/restore", None),  # it stands before the next page: shown there
            ("DELETE", f"/v1/assets/{assets[0]}", None),  # shown already: the place of the cursor does not move
            ("PUT", f"/v1/assets/{assets[8]}/rating", {"score": 5}),
            ("DELETE", f"/v1/assets/{assets[9]}", None),
        ],
    )
    assert seen == assets[:9]


async def test_pages_of_the_workspace_go_on_though_the_last_asset_shown_is_gone(site: Site) -> None:
    jobs = [await site.finished() for _ in range(2)]
    assets = [asset["id"] for job in jobs[::-1] for asset in job["assets"]]
    seen = await pages(
        site,
        "/v1/workspace",
        [("DELETE", f"/v1/workspace/{assets[1]}", None), ("DELETE", f"/v1/assets/{assets[3]}", None)],
    )
    assert seen == assets


async def test_any_number_in_a_cursor_is_a_place(site: Site) -> None:
    await one_asset(site)
    most = 2**63 - 1
    assert len(await ids(site, "/v1/workspace", cursor=cursor_of("workspace", most, most))) == 1
    assert await ids(site, "/v1/workspace", cursor=cursor_of("workspace", 0, most)) == []
    assert len(await ids(site, cursor=cursor_of("library", most))) == 1
    assert await ids(site, cursor=cursor_of("library", 0)) == []


# Search.

FOUND = [
    ("a lighthouse in FOG", "fog LIGHTHOUSE"),
    ("a lighthouse in fog", "light-house or fog"),
    ("dusk.warm light, black/white", "warm white"),
    ("a fox <lora:add_detail:0.8>", "detail"),
    ("a “castle”—at dusk…", "castle dusk"),
    ("sci-fi city", "sci-fi"),
    ("don't look", "don't"),
    ("маяк в тумане", "МАЯК"),
    ("φάρος", "ΦΆΡΟΣ"),
    ("e\u0301te\u0301", "été"),
    ("منارة في الضباب", "منارة"),
    ("灯塔在雾中\uff0c夜", "灯塔"),
    ("霧の中の灯台", '"灯台"'),
    ("\uff26\uff2f\uff27", "fog"),
    ("fog 🦊", "🦊 fog"),
    ("straße", "STRASSE or straße"),
]
MISSED = [
    ("a lighthouse in fog", "ship"),
    ("a lighthouse in fog", '"fog lighthouse"'),
    ("a lighthouse in fog", "lighthouse -fog"),
    ("灯塔在雾中", '"塔灯"'),
    ("fog", "x" * 500),
    ("fog", "灯" * 500),
    ("fog", "'; drop table views.library; --"),
]


async def test_words_are_found_however_they_are_written(site: Site) -> None:
    assets = {prompt: await one_asset(site, prompt=prompt) for prompt, _ in FOUND}
    for prompt, asked in FOUND:
        assert assets[prompt] in await ids(site, q=asked), (prompt, asked)


async def test_what_does_not_match_is_not_found_and_nothing_breaks(site: Site) -> None:
    assets = {prompt: await one_asset(site, prompt=prompt) for prompt in {prompt for prompt, _ in MISSED}}
    for prompt, asked in MISSED:
        assert assets[prompt] not in await ids(site, q=asked), (prompt, asked)
    for blank in ("", "  "):
        assert len(await ids(site, q=blank)) == len(assets)
    for refused in ("fog\0", "x" * 501, "((('\"&|!:*", "…—“”"):
        response = await site.http.get("/v1/library", params={"q": refused})
        assert (response.status_code, [one["path"] for one in response.json()["errors"]]) == (422, ["q"])


async def test_titles_and_tags_are_searched_as_they_are_now(site: Site) -> None:
    asset, other = await one_asset(site, prompt="fog"), await one_asset(site, prompt="fog")
    await change(site, "PATCH", f"/v1/assets/{asset}", {"title": "Regatta", "tags": ["Sea View", "Übung/1"]})
    for asked in ("regatta", "sea", "view fog", "übung", "regatta or nothing"):
        assert await ids(site, q=asked) == [asset], asked
    await change(site, "PATCH", f"/v1/assets/{asset}", {"title": None, "tags": []})
    assert await ids(site, q="regatta or sea") == []
    assert await ids(site, q="fog") == [other, asset]


@pytest.mark.parametrize("tag", ["sea", "Keep & frame", "100%", "a,b", '{"x"}', "\\", "'", "ключ", "a+b=c?", "null"])
async def test_a_tag_is_found_as_it_is_written(site: Site, tag: str) -> None:
    asset, other = await one_asset(site), await one_asset(site)
    await change(site, "PATCH", f"/v1/assets/{asset}", {"tags": [tag, "every"]})
    await change(site, "PATCH", f"/v1/assets/{other}", {"tags": ["every", f"{tag}{tag}"]})
    assert await ids(site, tag=tag) == [asset]
    assert await ids(site, tag="every") == [other, asset]


async def test_an_unrated_asset_has_no_score_at_all(site: Site) -> None:
    unrated, low, high = [await one_asset(site) for _ in range(3)]
    await change(site, "PUT", f"/v1/assets/{low}/rating", {"score": 1})
    await change(site, "PUT", f"/v1/assets/{high}/rating", {"score": 4})
    assert await ids(site, min_score=1) == [high, low]
    assert await ids(site, min_score=4) == [high]
    await change(site, "PUT", f"/v1/assets/{high}/rating", {"score": 2})
    assert await ids(site, min_score=4) == []
    assert unrated in await ids(site)


async def test_a_title_of_the_submission_is_shown_and_found(site: Site) -> None:
    command = submission_of(
        draft_of(body(quantity=1)), asked_by("admin", Headers({}), site.clock()), site.parts.catalog
    )
    named = replace(command, title="Harbours - Fog at dawn")
    await asyncio.to_thread(site.ledger.execute, JOB, named.job_id, named, Context(actor="admin", owner="admin"))
    job = await site.get(f"/v1/jobs/{named.job_id}")
    (waiting,) = (await site.get("/v1/workspace"))["results"]
    assert waiting["title"] == named.title
    assert await ids(site, q="harbours") == []
    await site.start(job)
    await site.complete(job, 0)
    assert await ids(site, q="harbours dawn") == [waiting["id"]]
    assert (await site.get(f"/v1/assets/{waiting['id']}"))["title"] == named.title
    await change(site, "PATCH", f"/v1/assets/{waiting['id']}", {"title": "Mist"})
    assert (await ids(site, q="harbours"), await ids(site, q="mist")) == ([], [waiting["id"]])


# Owners.


async def test_the_library_is_that_of_the_owner_of_the_session(site: Site, owned_views: OwnedViews, dsn: str) -> None:
    asset = await one_asset(site)

    def seen(stands_for: str, asked: str) -> list[UUID]:
        with owned_views.of(stands_for) as connection:
            return [row.asset_id for row in list_library(connection, asked, LibraryFilter(), before=None, limit=9)]

    assert seen("admin", "admin") == [UUID(asset)]
    assert (seen("bob", "admin"), seen("bob", "bob"), seen("admin", "bob")) == ([], [], [])
    page = "select asset_id from library_page(null, null, null, null, null, null, false, null, 9)"
    with psycopg.connect(dsn, options="-c role=darkroom_api") as nobody:
        assert nobody.execute(page).fetchall() == []
