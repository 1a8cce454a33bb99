"""Submitting: what is accepted, what is refused before anything is appended, and the same request twice."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.aggregates.job import Waiting
from domain.recipes.recipe import SEED_MAX
from tests.api.serving import Site, body, until


async def problem_of(site: Site, response: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The problem's fields by path; and nothing was appended."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    problem = response.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["detail"]
    assert problem["type"]
    assert problem["title"]
    assert site.ledger.head() == 0
    return {one["path"]: one["detail"] for one in problem.get("errors", [])}


async def test_a_submission_answers_with_the_job_before_any_view_knows_it(site: Site) -> None:
    response = await site.http.post("/v1/jobs", json=body(negative_prompt="blurry", params={"steps": 5}, tags=["sea"]))

    assert response.status_code == 202
    job = response.json()
    assert (job["status"], job["quantity"], job["seed"], job["attempt"]) == ("queued", 3, 42, 0)
    assert job["params"] == {"width": 128, "height": 128, "steps": 5, "guidance": 2.0, "sampler": "euler"}
    assert (job["model"], job["task"], job["negative_prompt"]) == ("sdxl-demo", "t2i", "blurry")
    assert [asset["seed"] for asset in job["assets"]] == [42, 43, 44]
    assert {asset["status"] for asset in job["assets"]} == {"reserved"}
    assert job["urls"]["get"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head() == 4
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert await site.get(f"/v1/jobs/{job['id']}") == job | {
        "queue": {
            "position": 1,
            "eta_s": None,
            "eta_p90_s": None,
            "workers": 0,
            "waits_for": "no_worker",
            "waits_since": job["created_at"],
            "detail": "No worker for the pool sdxl is running.",
        }
    }


@pytest.mark.parametrize(
    ("job_type", "quantity", "expected_s"),
    [("sdxl_image_fast", 3, 12), ("sdxl_image_high", 6, 48), ("image_fast", 1, 32.5)],
)
async def test_a_submission_says_how_long_the_whole_job_is_expected_to_take(
    site: Site, job_type: str, quantity: int, expected_s: float
) -> None:
    job = await site.submit(job_type=job_type, quantity=quantity)
    (queued, *_) = (await site.get(job["urls"]["history"]))["results"]
    assert (queued["type"], queued["data"]["expected_s"]) == ("job.queued", expected_s)


async def test_a_job_is_found_before_any_view_knows_it(site: Site) -> None:
    job = await site.submit()
    response = await site.http.get(job["urls"]["get"])
    assert response.json() == job


async def test_a_seed_is_drawn_when_none_is_given(site: Site) -> None:
    seeds = {(await site.submit(seed=None, quantity=1))["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed <= SEED_MAX for seed in seeds)


async def test_model_and_task_stand_for_a_job_type(site: Site) -> None:
    job = await site.submit(job_type=None, model="sdxl-demo", task="t2i")
    assert job["job_type"] == "sdxl_image_fast"


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"job_type": "sdxl_image_slow"}, "job_type", "sdxl_image_fast, sdxl_image_high"),
    ({"job_type": None}, "job_type", "model and task"),
    ({"job_type": None, "model": "sdxl-demo"}, "task", "required"),
    ({"job_type": None, "task": "t2i"}, "model", "required"),
    ({"job_type": None, "model": "flux", "task": "t2i"}, "model", "sdxl-demo with t2i"),
    ({"job_type": "sdxl_image_fast", "task": "i2i"}, "task", "does t2i"),
    ({"params": {"karras": True}}, "params.karras", "only with sampler = dpm++"),
    ({"model": "flux"}, "model", "sdxl-demo"),
    ({"job_type": 7}, "job_type", "string"),
    ({"quantity": 2}, "quantity", "1, 3, 6"),
    ({"quantity": "3"}, "quantity", "1, 3, 6"),
    ({"quantity": True}, "quantity", "1, 3, 6"),
    ({"prompt": ""}, "prompt", "1"),
    ({"prompt": " \n\t "}, "prompt", "can be seen"),
    ({"prompt": "x" * 10_001}, "prompt", "10000"),
    ({"prompt": None}, "prompt", "string"),
    ({"prompt": "fog\0"}, "prompt", "NUL"),
    ({"negative_prompt": "x" * 10_001}, "negative_prompt", "10000"),
    ({"seed": -1}, "seed", "0"),
    ({"seed": SEED_MAX + 1}, "seed", str(SEED_MAX)),
    ({"seed": SEED_MAX, "quantity": 3}, "seed", str(SEED_MAX - 2)),
    ({"seed": 2**70}, "seed", "whole number"),
    ({"seed": 1.5}, "seed", "whole number"),
    ({"seed": True}, "seed", "whole number"),
    ({"params": {"steps": 0}}, "params.steps", "1 to 100"),
    ({"params": {"width": 257}}, "params.width", "multiple of 8"),
    ({"params": {"speed": 3}}, "params.speed", "guidance, height, karras, sampler, steps, width"),
    ({"params": {"steps": [[1]]}}, "params.steps", "1 to 100"),
    ({"params": []}, "params", "object"),
    (
        {"references": [{"type": "style", "source": "media:1", "strength": 0.5}]},
        "references.0.type",
        "takes composition, not style",
    ),
    (
        {"references": [{"type": "mood", "source": "media:1", "strength": 0.5}]},
        "references.0.type",
        "takes composition, not mood",
    ),
    ({"media": {"image": "media:1"}}, "media.image", "is not used by a job type that does t2i, i2i"),
    ({"priority": 11}, "priority", "10"),
    ({"tags": ["x"] * 21}, "tags", "20"),
    ({"tags": ["x" * 65]}, "tags.0", "64"),
    ({"tags": ["sea\0"]}, "tags.0", "NUL"),
    ({"colour": "blue"}, "colour", "unknown"),
    ({"co\0lour": "blue"}, "co\N{SYMBOL FOR NULL}lour", "NUL"),
]


@pytest.mark.parametrize(("changes", "path", "allowed"), BAD_FIELDS)
async def test_a_bad_field_is_named_with_what_is_allowed(
    site: Site, changes: dict[str, Any], path: str, allowed: str
) -> None:
    content = {name: value for name, value in body(**changes).items() if name == "prompt" or value is not None}
    errors = await problem_of(site, await site.http.post("/v1/jobs", json=content), 422, "invalid_input")
    assert allowed in errors[path]


async def test_every_problem_of_a_body_is_reported_at_once(site: Site) -> None:
    bad = body(job_type="x", prompt="", seed=-1, priority=99, tags=[""], colour=1)
    errors = await problem_of(site, await site.http.post("/v1/jobs", json=bad), 422, "invalid_input")
    assert set(errors) == {"job_type", "prompt", "seed", "priority", "tags.0", "colour"}
    bad = body(quantity=2, params={"steps": 0, "x": 1})
    errors = await problem_of(site, await site.http.post("/v1/jobs", json=bad), 422, "invalid_input")
    assert set(errors) == {"quantity", "params.steps", "params.x"}


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b'{"prompt": ', JSON, 400, "malformed_json"),
        (b"", JSON, 400, "malformed_json"),
        (b'{"prompt": "a\x00b"}', JSON, 400, "malformed_json"),
        (b'{"prompt": "\xff"}', JSON, 400, "malformed_json"),
        (b'{"seed": NaN}', JSON, 400, "malformed_json"),
        (b"[" * 100_000, JSON, 400, "malformed_json"),
        (b'["a lighthouse"]', JSON, 422, "invalid_input"),
        (b'{"params": ' + b'{"a":' * 900 + b'"\\u0000"' + b"}" * 901, JSON, 422, "invalid_input"),
        (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b" " * 5_000_000, JSON, 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_submission(
    site: Site, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    await problem_of(site, await site.http.post("/v1/jobs", content=content, headers=headers), status, code)


async def test_a_body_of_unknown_length_is_bounded_too(site: Site) -> None:
    async def chunks() -> Any:
        for _ in range(80):
            yield b" " * 65_536

    response = await site.http.post("/v1/jobs", content=chunks(), headers=JSON)
    await problem_of(site, response, 413, "body_too_large")
    assert "1048576" in response.json()["detail"]


async def test_broken_json_says_where(site: Site) -> None:
    response = await site.http.post("/v1/jobs", content=b'{\n  "seed": 1,,\n}', headers=JSON)
    assert "line 2" in response.json()["detail"]


async def test_the_same_key_and_body_are_the_same_job(site: Site) -> None:
    headers = {"Idempotency-Key": "form-17"}
    first = await site.http.post("/v1/jobs", json=body(seed=None), headers=headers)
    await site.start(first.json())
    again = await site.http.post("/v1/jobs", json=body(seed=None), headers=headers)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["seed"] == first.json()["seed"]
    assert again.json()["status"] == "processing"
    assert again.json()["created_at"] == first.json()["created_at"]
    assert int(again.headers["Darkroom-Position"]) == site.ledger.head() == 5


async def test_the_order_of_fields_makes_no_other_body(site: Site) -> None:
    headers = {"Idempotency-Key": "form-17"}
    await site.http.post("/v1/jobs", json=body(), headers=headers)
    again = await site.http.post("/v1/jobs", json=dict(reversed(body().items())), headers=headers)
    assert again.status_code == 200


async def test_the_same_key_with_another_body_is_refused(site: Site) -> None:
    headers = {"Idempotency-Key": "form-17"}
    await site.http.post("/v1/jobs", json=body(), headers=headers)
    other = await site.http.post("/v1/jobs", json=body(seed=43), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert site.ledger.head() == 4


async def test_the_same_key_at_the_same_time_is_one_job(site: Site) -> None:
    headers = {"Idempotency-Key": "form-17"}
    sent = [site.http.post("/v1/jobs", json=body(), headers=headers) for _ in range(10)]
    responses = await asyncio.gather(*sent)
    assert sorted(response.status_code for response in responses) == [200] * 9 + [202]
    assert len({response.json()["id"] for response in responses}) == 1
    assert site.ledger.head() == 4


@pytest.mark.parametrize("key", [b"", b"two words", b"x" * 256, b"caf\xe9"])
async def test_a_key_that_is_invalid(site: Site, key: bytes) -> None:
    response = await site.http.post("/v1/jobs", json=body(), headers=[(b"Idempotency-Key", key)])
    await problem_of(site, response, 422, "idempotency_key_invalid")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("45", 45)])
async def test_cancel_after_becomes_the_deadline(site: Site, text: str, seconds: int) -> None:
    response = await site.http.post("/v1/jobs", json=body(), headers={"Cancel-After": text})
    job = site.ledger.generation(UUID(response.json()["id"])).job
    assert isinstance(job, Waiting)
    assert job.queued.deadline == site.clock() + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0s", "-5s", "soon", "9999999h", "721h", "5 m"])
async def test_cancel_after_that_is_no_duration(site: Site, text: str) -> None:
    response = await site.http.post("/v1/jobs", json=body(), headers={"Cancel-After": text})
    assert "Cancel-After" in await problem_of(site, response, 422, "invalid_input")


async def test_prefer_wait_answers_when_the_job_ended(site: Site) -> None:
    waiting = asyncio.create_task(
        site.http.post("/v1/jobs", json=body(quantity=1), headers={"Prefer": "respond-async, wait=30"})
    )
    job = await only_job(site)
    await site.start(job)
    await site.complete(job, 0)
    response = await asyncio.wait_for(waiting, 20)
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=30"
    assert response.json()["status"] == "succeeded"
    assert response.json()["assets"][0]["url"].endswith("/content")
    assert response.json() == await site.get(f"/v1/jobs/{job['id']}")


async def test_prefer_wait_ends(site: Site) -> None:
    response = await site.http.post("/v1/jobs", json=body(), headers={"Prefer": "wait=0"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.headers["Preference-Applied"] == "wait=0"


async def only_job(site: Site) -> dict[str, Any]:
    """The one job there is, once it is there."""
    await until(lambda: site.ledger.head() > 0)
    (job,) = (await site.get("/v1/jobs"))["results"]
    return dict(job)


async def test_without_nats_nothing_is_accepted(site: Site, project: Callable[[], None]) -> None:
    await site.parts.broker.close()
    response = await site.http.post("/v1/jobs", json=body())
    await problem_of(site, response, 503, "broker_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert (await site.http.get("/v1/jobs")).status_code == 200
    ready = await site.http.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["NATS cannot be reached."])
