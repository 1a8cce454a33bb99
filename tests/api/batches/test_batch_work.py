"""What is done to a batch: cancel what is left of it, and run items again as they can."""

import asyncio

import pytest

from domain.json_type import Json
from tests.api.batching import batch, counts, finish, item, job_of, opened, retried
from tests.api.serving import Site

# Canceling.


async def test_canceling_stops_what_is_left(site: Site) -> None:
    document = await opened(site, batch(item("A"), item("B"), item("C"), item("D"), {}))
    done, running, *_ = document["items"]
    await finish(site, done)
    await site.start(await job_of(site, running))
    response = await site.http.post(f"/v1/batches/{document['id']}/cancel")
    assert response.status_code == 202
    assert response.json() == {"canceled": 2, "cancel_requested": 1, "already_finished": 1}
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == counts(succeeded=1, processing=1, canceled=2, rejected=1)
    again = await site.http.post(f"/v1/batches/{document['id']}/cancel")
    assert again.json() == {"canceled": 0, "cancel_requested": 1, "already_finished": 3}


async def test_the_views_need_not_know_a_batch_to_cancel_it(site: Site) -> None:
    document = await opened(site, batch(*[item("A")] * 30))
    response = await site.http.post(f"/v1/batches/{document['id']}/cancel")
    assert response.json() == {"canceled": 30, "cancel_requested": 0, "already_finished": 0}


# Running again.


async def test_whatever_was_lost_runs_again_with_its_seeds(site: Site) -> None:
    document = await opened(site, batch(*[item(name, quantity=3, seed=10) for name in "ABCD"], {}))
    whole, part, none, _, _ = document["items"]
    await finish(site, whole)
    await finish(site, part, fail=(1,))
    await finish(site, none, fail=(0, 1, 2))
    answered = await retried(site, document)
    assert answered["id"] == document["id"]
    assert [(one["index"], one["template"], one["saved"]) for one in answered["items"]] == [
        (1, "B", True),
        (2, "C", True),
    ]
    job = await job_of(site, answered["items"][0])
    assert (job["parent_id"], job["batch_id"]) == (part["job_id"], document["id"])
    assert [asset["seed"] for asset in job["assets"]] == [11]
    assert [asset["title"] for asset in job["assets"]] == ["Autumn - B"]
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == counts(succeeded=1, queued=3, rejected=1)
    assert (shown["items"][1]["job_id"], shown["items"][1]["jobs"]) == (job["id"], [part["job_id"], job["id"]])
    assert [asset["status"] for asset in shown["items"][1]["assets"]] == ["completed", "completed", "reserved"]
    await finish(site, answered["items"][0])
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == counts(succeeded=2, queued=2, rejected=1)
    assert sorted(asset["seed"] for asset in shown["items"][1]["assets"]) == [10, 11, 12]


async def test_canceled_items_run_again_and_a_retry_may_be_retried(site: Site) -> None:
    document = await opened(site, batch(item("A")))
    await site.http.post(f"/v1/batches/{document['id']}/cancel")
    (again,) = (await retried(site, document))["items"]
    await finish(site, again, fail=(0,))
    (third,) = (await retried(site, document))["items"]
    jobs = (await site.get(f"/v1/batches/{document['id']}"))["items"][0]["jobs"]
    assert jobs == [document["items"][0]["job_id"], again["job_id"], third["job_id"]]


async def test_items_asked_for_run_again_each_as_it_can(site: Site) -> None:
    document = await opened(site, batch(*[item(name, quantity=3, seed=10) for name in "ABCD"], {}))
    whole, part, other, _, _ = document["items"]
    await finish(site, whole)
    await finish(site, part, fail=(1,))
    await finish(site, other, fail=(1,))
    answered = await retried(site, document, json={"items": [4, 3, 1, 0, 1]})
    first, second, third, fourth = answered["items"]
    assert [(one["index"], one["saved"]) for one in answered["items"]] == [
        (0, True),
        (1, True),
        (3, False),
        (4, False),
    ]
    assert (third["error"]["code"], "queued" in third["error"]["detail"]) == ("nothing_to_retry", True)
    assert (fourth["error"]["code"], "not accepted" in fourth["error"]["detail"]) == ("nothing_to_retry", True)
    again, lost = await job_of(site, first), await job_of(site, second)
    assert (again["quantity"], again["parent_id"]) == (3, whole["job_id"])
    assert again["seed"] != 10
    assert [asset["seed"] for asset in lost["assets"]] == [11]
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["counts"] == counts(queued=3, partially_succeeded=1, rejected=1)


async def test_an_item_whose_lost_outputs_were_made_later_runs_again_as_a_whole(site: Site) -> None:
    document = await opened(site, batch(item("A", quantity=3)))
    await finish(site, document["items"][0], fail=(2,))
    (again,) = (await retried(site, document))["items"]
    await finish(site, again)
    (third,) = (await retried(site, document, json={"items": [0]}))["items"]
    job = await job_of(site, third)
    assert (job["quantity"], job["parent_id"]) == (3, again["job_id"])


async def test_nothing_to_retry_is_a_conflict_that_says_why(site: Site) -> None:
    document = await opened(site, batch(item("A"), {}))
    head = site.ledger.head()
    problem = await retried(site, document, 409)
    assert problem["code"] == "nothing_to_retry"
    problem = await retried(site, document, 409, json={"items": [0, 1]})
    assert problem["code"] == "nothing_to_retry"
    assert "Item 0: " in problem["detail"]
    assert "Item 1: It was not accepted" in problem["detail"]
    assert site.ledger.head() == head


@pytest.mark.parametrize(
    ("content", "path"),
    [({"items": [0, 7]}, "items.1"), ({"items": []}, "items"), ({"items": [-1]}, "items.0"), ({"item": 1}, "item")],
)
async def test_a_retry_of_what_the_batch_does_not_have(site: Site, content: Json, path: str) -> None:
    document = await opened(site, batch(item("A")))
    problem = await retried(site, document, 422, json=content)
    assert [one["path"] for one in problem["errors"]] == [path]


async def test_the_same_retry_again_starts_nothing(site: Site) -> None:
    document = await opened(site, batch(item("A"), item("B")))
    for one in document["items"]:
        await finish(site, one, fail=(0,))
    headers = {"Idempotency-Key": "again-1"}
    first = await retried(site, document, json={"items": [0]}, headers=headers)
    head = site.ledger.head()
    again = await retried(site, document, 200, json={"items": [0]}, headers=headers)
    assert again == first
    other = await retried(site, document, 422, json={"items": [1]}, headers=headers)
    assert other["code"] == "idempotency_key_reused"
    assert site.ledger.head() == head


async def test_of_two_who_run_an_item_again_at_once_one_does(site: Site) -> None:
    document = await opened(site, batch(item("A"), item("B")))
    for one in document["items"]:
        await finish(site, one, fail=(0,))
    path = f"/v1/batches/{document['id']}/retry"
    responses = await asyncio.gather(*[site.http.post(path) for _ in range(5)])
    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409, 409]
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert [len(one["jobs"]) for one in shown["items"]] == [2, 2]


async def test_retrying_the_job_of_an_item_runs_the_item_again(site: Site) -> None:
    document = await opened(site, batch(item("A", quantity=3), item("B")))
    first, second = document["items"]
    await finish(site, first, fail=(1,))
    path, headers = f"/v1/jobs/{first['job_id']}/retry", {"Idempotency-Key": "again-1"}
    response = await site.http.post(path, headers=headers)
    assert response.status_code == 202
    job = response.json()
    assert (job["parent_id"], job["batch_id"], job["quantity"]) == (first["job_id"], document["id"], 1)
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
    head = site.ledger.head()
    again = await site.http.post(path, headers=headers)
    assert (again.status_code, again.json()) == (200, job)
    assert site.ledger.head() == head
    shown = await site.get(f"/v1/batches/{document['id']}")
    assert shown["items"][0]["jobs"] == [first["job_id"], job["id"]]
    waiting = await site.http.post(f"/v1/jobs/{second['job_id']}/retry")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "nothing_to_retry")
