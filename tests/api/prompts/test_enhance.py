"""`POST /v1/enhance`, with and without a worker that answers; and what a job shows of its enhanced prompt."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg

from api.http import schemas
from api.prompts import enhance as enhancing
from domain.commands import NoteOfAttempt
from domain.envelope import Recorded
from domain.events import JobPromptEnhanced
from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from services.database import Database
from services.ledger import Ledger
from services.messaging.wire import ENHANCE, ENHANCERS, EnhanceReply, EnhanceRequest
from tests.api.serving import Site, until
from tests.histories import Views
from tests.services.beside import settled

PROMPT = "a lighthouse in fog"
BODY = {"prompt": PROMPT, "job_type": "sdxl_image_fast"}

Answer = Callable[[EnhanceRequest], bytes | None]


@asynccontextmanager
async def a_worker(url: str, answer: Answer) -> AsyncIterator[list[EnhanceRequest]]:
    """Somebody who answers over a real NATS. Yields what was asked."""
    asked: list[EnhanceRequest] = []

    async def heard(message: Msg) -> None:
        asked.append(EnhanceRequest.model_validate_json(message.data))
        content = answer(asked[-1])
        if content is not None:
            await message.respond(content)

    connection = await nats.connect(url)
    await connection.subscribe(ENHANCE, ENHANCERS, heard)
    await settled(connection)
    try:
        yield asked
    finally:
        await connection.close()


def a_reply(asked: EnhanceRequest) -> bytes:
    return (
        EnhanceReply(enhanced=f"{asked.prompt}, at dawn", enhancer="Qwen2.5-7B-Instruct a09a")
        .model_dump_json()
        .encode()
    )


async def made(site: Site, **changes: Any) -> dict[str, Any]:
    response = await site.http.post("/v1/enhance", json=BODY | changes)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    schemas.Enhancement.model_validate(document)
    assert int(response.headers["Darkroom-Position"]) == site.ledger.head()
    return document


async def test_without_a_worker_the_rules_answer_and_the_ledger_has_it(site: Site) -> None:
    document = await made(site)
    enhanced = enhance(PROMPT, Kind.IMAGE)
    assert document == {
        "id": document["id"],
        "job_type": "sdxl_image_fast",
        "original": PROMPT,
        "enhanced": enhanced,
        "enhancer": RULES,
    }
    (event,) = site.ledger.read(0, 10)
    assert isinstance(event, Recorded)
    assert str(event.stream_id) == document["id"]
    assert (event.name, event.envelope.owner, event.envelope.at) == ("enhancement.made", "admin", site.clock())
    assert event.data == {name: document[name] for name in document if name != "id"} | {"owner": "admin"}


@pytest.mark.parametrize(("job_type", "kind"), [("sdxl_image_fast", Kind.IMAGE), ("video_fast", Kind.VIDEO)])
async def test_a_worker_with_a_language_model_answers(site: Site, nats_url: str, job_type: str, kind: Kind) -> None:
    async with a_worker(nats_url, a_reply) as asked:
        document = await made(site, job_type=job_type)
    assert (document["enhanced"], document["enhancer"]) == (f"{PROMPT}, at dawn", "Qwen2.5-7B-Instruct a09a")
    assert asked == [EnhanceRequest(prompt=PROMPT, kind=kind)]


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"enhanced": "", "enhancer": "x"}'])
async def test_the_rules_step_in_for_a_worker_that_does_not_answer(
    site: Site, nats_url: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhancing, "ENHANCE_S_MAX", 0.2)
    async with a_worker(nats_url, lambda _: content) as asked:
        document = await made(site)
    assert len(asked) == 1
    assert (document["enhanced"], document["enhancer"]) == (
        enhance(PROMPT, Kind.IMAGE),
        f"{RULES} (no worker answered)",
    )


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"job_type": "flux"}, "job_type", "allowed: "),
        ({"job_type": 3}, "job_type", "string"),
        ({"job_type": None}, "job_type", "string"),
        ({"prompt": " "}, "prompt", "can be seen"),
        ({"prompt": ""}, "prompt", "at least 1"),
        ({"prompt": "x" * 10_001}, "prompt", "at most 10000"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
)
async def test_a_bad_request_says_what_is_allowed_and_appends_nothing(
    site: Site, changes: dict[str, Any], path: str, words: str
) -> None:
    response = await site.http.post("/v1/enhance", json=BODY | changes)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert {one["path"]: words in one["detail"] for one in response.json()["errors"]} == {path: True}
    assert site.ledger.head() == 0


async def test_nothing_is_made_while_nats_is_away(site: Site) -> None:
    await site.parts.broker.close()
    await until(lambda: not site.parts.broker.connected)
    response = await site.http.post("/v1/enhance", json=BODY)
    assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
    assert site.ledger.head() == 0


async def test_every_view_lives_with_it_and_the_history_shows_it(
    site: Site, database: Database, ledger: Ledger
) -> None:
    document = await made(site)
    job = await site.finished(quantity=1)
    views = Views(database, ledger)
    assert await asyncio.to_thread(views.parked) == []
    (shown,) = [row for row in await asyncio.to_thread(views.rows, "history") if row["type"] == "enhancement.made"]
    assert (str(shown["stream_id"]), shown["owner"]) == (document["id"], "admin")
    assert [one["id"] for one in (await site.get("/v1/jobs"))["results"]] == [job["id"]]
    assert (await site.http.get(f"/v1/jobs/{document['id']}")).status_code == 404


async def test_a_job_shows_its_prompt_and_what_became_of_it(site: Site) -> None:
    job = await site.submit(quantity=1)
    assert job["enhanced_prompt"] is None
    await site.start(job)
    note = JobPromptEnhanced(attempt=1, original=PROMPT, enhanced=f"{PROMPT}, at dawn", enhancer=RULES)
    await site.report(job, NoteOfAttempt(note, site.clock.tick()))
    before = (await site.http.get(job["urls"]["get"])).json()  # from the ledger: no view has it
    assert (before["prompt"], before["enhanced_prompt"]) == (PROMPT, f"{PROMPT}, at dawn")
    after = await site.get(job["urls"]["get"])
    assert (after["prompt"], after["enhanced_prompt"]) == (PROMPT, f"{PROMPT}, at dawn")
    assert (await site.get("/v1/jobs"))["results"][0]["enhanced_prompt"] == f"{PROMPT}, at dawn"
    await site.complete(job, 0)
    ended = await site.get(job["urls"]["get"])
    assert (ended["status"], ended["enhanced_prompt"]) == ("succeeded", f"{PROMPT}, at dawn")
