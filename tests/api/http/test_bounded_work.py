"""What one request can make us do is bounded: problems worded, members looked at, turns of threads."""

import sys
import threading

import pytest

from api.http.bodies.json_body import MEMBERS_MAX
from api.jobs.sources import REFERENCES_MAX
from domain.errors import PROBLEMS_TOLD_MAX, FieldProblem, InvalidInput
from services.scheduling import TURN_S, short_turns
from tests.api.serving import Site, body

ANSWER_BYTES_MAX = 50_000
MANY = {f"unknown_{number}": number for number in range(30_000)}


@pytest.mark.parametrize(
    "wrong",
    [
        body(**MANY),
        body(params=MANY),
        body(media=dict.fromkeys(MANY, "x")),
        body(tags=["", "x"] * 40_000),
        body(references=[{"source": "x"}] * 30_000),
        body(params=dict(list(MANY.items())[:MEMBERS_MAX])),
        body(job_type="x" * 900_000),
        body(**{"x" * 900_000: 1}),
        body(references=[{"type": "style", "source": "media:x", "strength": 0.5}] * (REFERENCES_MAX + 1)),
    ],
    ids=[
        "members",
        "params",
        "media",
        "tags",
        "references",
        "some params",
        "long value",
        "long name",
        "over the bound",
    ],
)
async def test_a_body_with_many_mistakes_gets_a_short_answer(site: Site, wrong: dict[str, object]) -> None:
    alone = await site.http.post("/v1/jobs", json=wrong)
    assert (alone.status_code, alone.json()["code"]) == (422, "invalid_input")
    assert len(alone.content) < ANSWER_BYTES_MAX
    assert 1 <= len(alone.json()["errors"]) <= PROBLEMS_TOLD_MAX
    batch = await site.http.post("/v1/batches", json={"name": "b", "items": [wrong, body()]})
    assert batch.status_code == 202
    assert [item["saved"] for item in batch.json()["items"]] == [False, True]
    assert len(batch.content) < ANSWER_BYTES_MAX


def test_a_refusal_names_the_first_problems_and_how_many_more() -> None:
    refused = InvalidInput([FieldProblem(f"field_{number}", "must be another") for number in range(25)])
    assert len(refused.problems) == PROBLEMS_TOLD_MAX
    assert str(refused).endswith("field_19: must be another; and 5 more")
    assert str(InvalidInput([FieldProblem("one", "is wrong")])) == "one: is wrong"


async def test_a_large_batch_reads_as_the_small_ones_do(site: Site) -> None:
    items = [body(quantity=6, template=f"t{number % 3}") for number in range(200)]
    accepted = await site.http.post("/v1/batches", json={"name": "Large", "items": items})
    assert accepted.status_code == 202
    shown = await site.get(f"/v1/batches/{accepted.json()['id']}")
    assert [len(item["assets"]) for item in shown["items"]] == [6] * 200
    assert list(shown)[-1] == "items"


def test_turns_are_short_while_any_thread_computes_for_long() -> None:
    usual_s = sys.getswitchinterval()
    entered, leave = threading.Barrier(3), threading.Event()

    def compute() -> None:
        with short_turns():
            entered.wait(20)
            leave.wait(20)

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for each in threads:
        each.start()
    entered.wait(20)
    assert sys.getswitchinterval() == pytest.approx(TURN_S)
    leave.set()
    for each in threads:
        each.join(20)
    assert sys.getswitchinterval() == pytest.approx(usual_s)
