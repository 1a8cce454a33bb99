"""Comparisons over HTTP: one prompt and seed on several settings, side by side by index, and what is liked better."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from api.http import schemas
from domain.envelope import Recorded
from domain.events import BatchPreferred
from domain.json_type import Json
from tests.api.batching import counts, finish, item, job_of, opened, retried, uploaded
from tests.api.http.test_schemas import check
from tests.api.serving import Site

PROMPT = "a red circle left of a blue square"
VARIANTS = [
    {"job_type": "sdxl_image_fast", "template": "fast"},
    {"job_type": "sdxl_image_high", "params": {"steps": 30}},
    {"model": "sdxl-demo", "task": "t2i", "params": {"guidance": 9.0}},
]


def comparison(*variants: Any, **changes: Any) -> Json:
    """A comparison of these variants, or of three good ones."""
    return {"kind": "comparison", "prompt": PROMPT, "seed": 7, "variants": list(variants) or VARIANTS} | changes


async def compared(site: Site, *variants: Any, **changes: Any) -> tuple[str, list[Json]]:
    """A comparison whose jobs are finished: its path, and its items."""
    document = await opened(site, comparison(*variants, **changes))
    for one in document["items"]:
        await finish(site, one)
    path = f"/v1/batches/{document['id']}"
    return path, (await site.get(path))["items"]


async def prefer(site: Site, path: str, winner: str, loser: str, status: int = 201, **more: Any) -> Json:
    """The answer to a preference."""
    content = {"winner": winner, "loser": loser, **more}
    response = await site.http.post(f"{path}/preferences", json=content)
    assert response.status_code == status, response.text
    answered: Json = response.json()
    return answered | {"position": int(response.headers.get("Darkroom-Position", 0))}


def first_of(item: Json) -> str:
    """The id of the item's first asset."""
    asset: str = item["assets"][0]["id"]
    return asset


async def test_variants_share_the_prompt_and_the_seed_and_line_up_by_index(site: Site) -> None:
    document = await opened(site, comparison())
    assert (document["kind"], document["name"], document["prompt"], document["seed"]) == (
        "comparison",
        PROMPT,
        PROMPT,
        7,
    )
    jobs = [await job_of(site, one) for one in document["items"]]
    assert [job["job_type"] for job in jobs] == ["sdxl_image_fast", "sdxl_image_high", "sdxl_image_fast"]
    assert {(job["prompt"], job["seed"], job["batch_id"]) for job in jobs} == {(PROMPT, 7, document["id"])}
    assert [jobs[1]["params"]["steps"], jobs[2]["params"]["guidance"]] == [30, 9.0]
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert [one["index"] for one in shown["items"]] == [0, 1, 2]
    assert [one["assets"][0]["title"] for one in shown["items"]] == ["fast", None, None]
    assert shown["preferences"] == []
    check(schemas.BatchAccepted, document)
    check(schemas.Batch, shown)


async def test_a_seed_that_is_drawn_is_the_same_for_all(site: Site) -> None:
    content = comparison()
    content.pop("seed")
    document = await opened(site, content)
    assert {(await job_of(site, one))["seed"] for one in document["items"]} == {document["seed"]}


async def test_one_bad_variant_never_stops_the_others(site: Site) -> None:
    bad = [{"job_type": "flux"}, {**VARIANTS[0], "prompt": "a fox"}, {**VARIANTS[0], "seed": 8}, 7]
    document = await opened(site, comparison(VARIANTS[0], *bad))
    assert document["counts"] == counts(queued=1, rejected=4)
    paths = [[one["path"] for one in each["error"]["errors"]] for each in document["items"][1:]]
    assert paths == [["job_type"], ["prompt"], ["seed"], ["item"]]


async def test_a_comparison_may_start_from_a_picture(site: Site) -> None:
    base = uploaded(site)
    document = await opened(site, comparison(VARIANTS[0], {"job_type": "video_fast"}, base=base, collection="Autumn"))
    picture, film = [await job_of(site, one) for one in document["items"]]
    assert (picture["task"], film["task"]) == ("i2i", "i2v")
    assert picture["assets"][0]["title"] == "Autumn - fast"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"variants": VARIANTS[:1]}, "variants"),
        ({"variants": [VARIANTS[0]] * 9}, "variants"),
        ({"variants": {}}, "variants"),
        ({"items": [item("Fox")]}, "items"),
        ({"name": ""}, "name"),
        ({"kind": "contest"}, "kind"),
    ],
)
async def test_a_bad_envelope_is_refused_as_a_whole(site: Site, changes: Json, path: str) -> None:
    response = await site.http.post("/v1/batches", json=comparison(**changes))
    assert response.status_code == 422
    assert path in {one["path"] for one in response.json()["errors"]}
    assert site.ledger.head() == 0


async def test_a_preference_is_an_event_and_the_comparison_shows_it(site: Site) -> None:
    path, items = await compared(site)
    one, other, third = map(first_of, items)
    said = await prefer(site, path, one, other, blind=True)
    assert said == {
        "winner": one,
        "loser": other,
        "winner_index": 0,
        "loser_index": 1,
        "blind": True,
        "position": site.ledger.head(),
    }
    await prefer(site, path, third, one)
    head = site.ledger.head()
    again = await prefer(site, path, third, one, 200)
    assert (again["position"], site.ledger.head()) == (head, head)
    shown = await site.get(path)
    check(schemas.Batch, shown)
    pairs = [(each["winner_index"], each["loser_index"], each["blind"]) for each in shown["preferences"]]
    assert pairs == [(0, 1, True), (2, 0, False)]
    await prefer(site, path, other, one)
    shown = await site.get(path)
    assert [(each["winner"], each["loser"]) for each in shown["preferences"]] == [(third, one), (other, one)]
    events = site.ledger.stream(UUID(path.rpartition("/")[2]))
    preferred = [one for one in events if isinstance(one, Recorded) and isinstance(one.event, BatchPreferred)]
    assert preferred[0].position == said["position"]
    assert len(preferred) == 3


async def test_only_assets_of_the_comparison_are_compared(site: Site) -> None:
    path, items = await compared(site)
    _, others = await compared(site)
    head = site.ledger.head()
    mine, another = first_of(items[0]), first_of(others[1])
    theirs = str(uuid4())
    for asset in (another, theirs):
        for winner, loser, side in ((mine, asset, "loser"), (asset, mine, "winner")):
            problem = await prefer(site, path, winner, loser, 422)
            assert [(one["path"], "of this comparison" in one["detail"]) for one in problem["errors"]] == [(side, True)]
    problem = await prefer(site, path, mine, mine, 422)
    assert [one["path"] for one in problem["errors"]] == ["loser"]
    assert site.ledger.head() == head


async def test_two_outputs_of_one_variant_are_not_compared(site: Site) -> None:
    path, items = await compared(site, {**VARIANTS[0], "quantity": 3}, VARIANTS[1])
    first, second, _ = [asset["id"] for asset in items[0]["assets"]]
    problem = await prefer(site, path, first, second, 422)
    assert "another item" in problem["errors"][0]["detail"]
    await prefer(site, path, second, first_of(items[1]))


async def test_an_asset_that_is_not_there_yet_is_not_compared(site: Site) -> None:
    document = await opened(site, comparison())
    path = f"/v1/batches/{document['id']}"
    await finish(site, document["items"][0])
    items = (await site.get(path))["items"]
    problem = await prefer(site, path, first_of(items[0]), first_of(items[1]), 409)
    assert (problem["code"], "reserved" in problem["detail"]) == ("asset_not_completed", True)


async def test_items_of_a_batch_are_not_compared(site: Site) -> None:
    document = await opened(site, {"name": "Foxes", "items": [item("A"), item("B")]})
    for one in document["items"]:
        await finish(site, one)
    path = f"/v1/batches/{document['id']}"
    one, other = map(first_of, (await site.get(path))["items"])
    assert (await prefer(site, path, one, other, 409))["code"] == "not_a_comparison"


@pytest.mark.parametrize(
    ("changes", "path"),
    [({"winner": "x"}, "winner"), ({"loser": None}, "loser"), ({"blind": "yes"}, "blind"), ({"why": "x"}, "why")],
)
async def test_a_preference_that_is_invalid(site: Site, changes: Json, path: str) -> None:
    document = await opened(site, comparison())
    content = {"winner": str(uuid4()), "loser": str(uuid4()), **changes}
    response = await site.http.post(f"/v1/batches/{document['id']}/preferences", json=content)
    assert response.status_code == 422
    assert [one["path"] for one in response.json()["errors"]] == [path]


async def test_a_variant_runs_again_and_keeps_its_place_and_its_preferences(site: Site) -> None:
    path, items = await compared(site)
    await prefer(site, path, first_of(items[1]), first_of(items[0]))
    answered = await retried(site, {"id": path.rpartition("/")[2]}, json={"items": [1]})
    check(schemas.BatchAgain, answered)
    (again,) = answered["items"]
    await finish(site, again)
    shown = await site.get(path)
    assert (again["index"], len(shown["items"][1]["assets"])) == (1, 2)
    assert [(each["winner_index"], each["loser_index"]) for each in shown["preferences"]] == [(1, 0)]
    await prefer(site, path, shown["items"][1]["assets"][1]["id"], first_of(items[0]))
