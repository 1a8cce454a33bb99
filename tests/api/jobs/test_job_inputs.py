"""Reuse over HTTP: `GET /v1/jobs/{id}/inputs` and lineage. Properties 4 to 7 of the twelve; the others are pure:
tests/domain/recipes/test_reuse.py.

Where the design speaks of a path that the record stores, the recipe in the ledger is meant; of an event with the job's
data, the one answer; of a user interface that is not blocked, an API that answers others meanwhile.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api.app import create_app
from api.http import schemas
from domain.aggregates.media import Uploaded
from domain.commands import DeleteMedia, NoteOfAttempt, TrashAsset
from domain.events import JobPromptEnhanced
from domain.json_type import Json
from domain.recipes.catalog import Catalog
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.ledger import ASSET, MEDIA, Context, Ledger, PostgresRecorder
from services.ledger.commits import Commit, NewEvent
from tests.api.assets.test_uploads import described, upload
from tests.api.serving import BLOBS_URL, Site, body, until
from tests.domain.catalogs import SHIPPED, catalog_of
from tests.domain.random_catalogs import PROMPTS, TEXT
from tests.domain.recipes.test_reuse import damaged
from tests.services.media_files import encoded, picture, video
from tests.spec import NOW

HUNDRED = settings(
    max_examples=100,
    deadline=None,
    # One database serves all examples: each is a job of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NESTED = """
[params.rho]
type = "number"
minimum = 1
maximum = 10
default = 7.0
depends_on = { karras = true }
[params.floor]
type = "integer"
minimum = 0
maximum = 5
default = 0
depends_on = { rho = [7.0, 8.0], sampler = "dpm++" }
[job_types.sdxl_image_fast]
params = ["floor", "rho", "karras", "steps", "guidance", "sampler"]
"""


@pytest.fixture
def catalog() -> Catalog:
    """The packaged catalog, with conditions that nest."""
    return catalog_of(SHIPPED, NESTED)


Sources = dict[str, list[str]]
"""What there is to start from, by kind."""


@pytest_asyncio.fixture
async def sources(site: Site) -> Sources:
    """Three pictures and two videos: uploads, and an asset among the pictures."""
    (asset,) = (await site.finished(quantity=1))["assets"]
    pictures = [described(await upload(site.http, encoded(picture(width)))) for width in (64, 80)]
    videos = [described(await upload(site.http, video(frames=frames))) for frames in (3, 5)]
    return {
        "image": [f"asset:{asset['id']}", *(f"media:{each['id']}" for each in pictures)],
        "video": [f"media:{each['id']}" for each in videos],
    }


@st.composite
def bodies(draw: st.DrawFn, sources: Sources) -> Json:
    """Submissions of an image or a video, with or without files that they start from."""
    asked: Json = {"prompt": draw(PROMPTS), "seed": draw(st.integers(0, 10_000)), "params": {}}
    if draw(st.booleans()):
        asked |= {"job_type": "video_fast", "quantity": 1}
        medium = draw(st.sampled_from([None, "image", "video"]))
        asked["media"] = {medium: draw(st.sampled_from(sources[medium]))} if medium else {}
        return asked
    asked |= {"job_type": "sdxl_image_fast", "quantity": draw(st.sampled_from([1, 3, 6]))}
    asked["params"] = draw(nested_params())
    if draw(st.booleans()):
        source = draw(st.sampled_from(sources["image"]))
        asked["references"] = [{"type": "composition", "source": source, "strength": draw(st.sampled_from([0.1, 0.7]))}]
    if draw(st.booleans()):
        asked["negative_prompt"] = draw(TEXT)
    return asked


@st.composite
def nested_params(draw: st.DrawFn) -> Json:
    """Some of the nested parameters, each only where it means something."""
    asked: Json = {"steps": draw(st.integers(1, 30))}
    if draw(st.booleans()):
        asked["sampler"] = "dpm++"
        if draw(st.booleans()):
            asked["karras"] = True
            if draw(st.booleans()):
                asked["rho"] = draw(st.sampled_from([7.0, 8.0]))
                asked["floor"] = draw(st.integers(0, 5))
    return asked


async def inputs_of(site: Site, job: Json) -> Json:
    """The answer, which is what OpenAPI says it is."""
    answer = await site.http.get(job["urls"]["inputs"])
    assert answer.status_code == 200, answer.text
    document: Json = answer.json()
    TypeAdapter(schemas.Inputs).validate_python(document)
    return document


def values_of(inputs: Json) -> Json:
    """The values by name."""
    return {each["name"]: each["value"] for each in inputs["inputs"]}


def submission(inputs: Json) -> Json:
    """The body that a program makes of the answer."""
    values = values_of(inputs)
    fields = {name: values.pop(name) for name in ("quantity", "seed", "negative_prompt") if name in values}
    named = {name: inputs[name] for name in ("job_type", "model", "task", "prompt") if inputs[name] is not None}
    return named | fields | {"params": values, "media": inputs["media"], "references": inputs["references"]}


# Properties 4 to 7.


@HUNDRED
@given(data=st.data())
async def test_property_04_media_path_storage(site: Site, sources: Sources, data: st.DataObject) -> None:
    asked = data.draw(bodies(sources))
    job = (await site.http.post("/v1/jobs", json=asked)).json()
    recipe = site.ledger.request_of(UUID(job["id"]), owner="admin")["recipe"]
    assert recipe["media"] == asked.get("media", {})
    named = [each["source"] for each in asked.get("references", [])]
    assert [each["source"] for each in recipe["references"]] == named
    assert set(recipe["files"]) == {*recipe["media"].values(), *named}
    for file in recipe["files"].values():
        assert (await asyncio.to_thread(site.parts.blobs.describe, file["path"])).sha256 == file["sha256"]


@HUNDRED
@given(data=st.data())
async def test_property_05_event_dispatching(site: Site, sources: Sources, data: st.DataObject) -> None:
    asked = data.draw(bodies(sources))
    job = (await site.http.post("/v1/jobs", json=asked)).json()
    inputs = await inputs_of(site, job)
    for name in ("job_type", "model", "task", "prompt", "media", "references"):
        assert inputs[name] == job[name]
    values = values_of(inputs)
    assert {name: values[name] for name in job["params"]} == job["params"]
    assert (values["seed"], values["quantity"]) == (job["seed"], job["quantity"])
    assert values.get("negative_prompt") == asked.get("negative_prompt")
    assert set(values) - set(job["params"]) <= {"seed", "quantity", "negative_prompt"}
    assert (inputs["job_id"], inputs["skipped"], inputs["warnings"]) == (job["id"], [], [])
    again = await site.http.post("/v1/jobs", json=submission(inputs))
    assert again.status_code == 202, again.text
    same = ("job_type", "model", "task", "prompt", "negative_prompt", "params", "seed", "references", "media")
    assert {name: again.json()[name] for name in same} == {name: job[name] for name in same}


class SlowStore(Blobs):
    """An object store that says whether a file is there once it is asked to; nobody reads a file meanwhile."""

    def __init__(self) -> None:
        super().__init__(BLOBS_URL)
        self.asked = 0
        self.answers = asyncio.Event()

    def begin(self) -> None:
        """Be slow again."""
        self.asked = 0
        self.answers.clear()

    async def exists(self, path: str) -> bool:
        """Yes, later."""
        self.asked += 1
        await self.answers.wait()
        return True

    def get(self, path: str) -> bytes:
        """Never: a client reads files by itself, when it wants to."""
        raise AssertionError(f"{path} was read")


@asynccontextmanager
async def on_store(site: Site, blobs: Blobs) -> AsyncIterator[httpx.AsyncClient]:
    """The same API on another object store."""
    app = create_app(replace(site.parts, blobs=blobs))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=site.http.headers) as http,
    ):
        yield http


@pytest_asyncio.fixture
async def slow(site: Site, sources: Sources) -> AsyncIterator[tuple[SlowStore, httpx.AsyncClient]]:
    """The store, and the API on it."""
    blobs = SlowStore()
    async with on_store(site, blobs) as http:
        yield blobs, http


@HUNDRED
@given(data=st.data())
async def test_property_06_async_file_loading(
    slow: tuple[SlowStore, httpx.AsyncClient], sources: Sources, data: st.DataObject
) -> None:
    blobs, http = slow
    blobs.begin()
    asked = data.draw(bodies(sources).filter(lambda asked: asked.get("media") or asked.get("references")))
    job = (await http.post("/v1/jobs", json=asked)).json()
    waiting = asyncio.create_task(http.get(job["urls"]["inputs"]))
    await until(lambda: blobs.asked == 1)
    others = await asyncio.gather(http.get("/healthz"), http.get(f"/v1/jobs/{job['id']}"))
    assert [other.status_code for other in others] == [200, 200]
    assert not waiting.done()
    blobs.answers.set()
    inputs = (await asyncio.wait_for(waiting, 20)).json()
    assert (inputs["media"], inputs["references"]) == (job["media"], job["references"])


@HUNDRED
@given(data=st.data())
async def test_property_07_error_handling(
    site: Site, sources: Sources, recorder: PostgresRecorder, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    job = (await site.http.post("/v1/jobs", json=data.draw(bodies(sources)))).json()
    request = data.draw(damaged(site.ledger.request_of(UUID(job["id"]), owner="admin")))
    stored_as = store(recorder, request)
    with caplog.at_level(logging.WARNING, logger="api.jobs.reuse"):
        caplog.clear()
        inputs = await inputs_of(site, {"urls": {"inputs": f"/v1/jobs/{stored_as}/inputs"}})
    told = {each["code"] for each in inputs["warnings"]}
    assert {record.getMessage().split(": ")[1] for record in caplog.records} == told
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    if not isinstance(request.get("recipe"), dict):
        assert told == {"options_invalid"}
    elif request["recipe"].get("prompt") == job["prompt"]:
        assert inputs["prompt"] == job["prompt"]
    assert (await inputs_of(site, job))["warnings"] == []


def store(recorder: PostgresRecorder, request: Json, owner: str = "admin") -> UUID:
    """A `job.queued` as no decider would make it; the id of the job."""
    job_id, command_id = uuid4(), uuid4()
    meta = {
        "actor": owner, "owner": owner, "at": datetime.now(UTC), "command_id": command_id, "correlation_id": job_id,
        "causation_id": None,
    }  # fmt: skip
    state = json.dumps({"meta": meta, "data": request}, default=str).encode()
    recorder.write(Commit(command_id, [NewEvent(job_id, 1, "job.queued.v1", state)]))
    return job_id


# What learns of a job that is not there, or whose parts are not.


async def test_an_unknown_or_foreign_job_has_no_inputs(site: Site, recorder: PostgresRecorder) -> None:
    job = await site.submit(quantity=1)
    damaged_one = store(recorder, {"recipe": 7}, owner="bob")
    unreadable = uuid4()
    recorder.write(Commit(uuid4(), [NewEvent(unreadable, 1, "job.queued.v1", b"{")]))
    for unknown in (uuid4(), site.submit_as("bob"), damaged_one, unreadable, job["assets"][0]["id"], "42"):
        answer = await site.http.get(f"/v1/jobs/{unknown}/inputs")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_inputs_are_there_at_once_and_whatever_becomes_of_the_job(site: Site) -> None:
    job = await site.submit()
    before = await inputs_of(site, job)  # no view has seen the job
    await site.start(job)
    note = JobPromptEnhanced(attempt=1, original=job["prompt"], enhanced="richer", enhancer="rules")
    await site.report(job, NoteOfAttempt(note, site.clock.tick()))
    for index in range(3):
        await site.complete(job, index)
    assert await inputs_of(site, job) == before
    assert before["prompt"] == "a lighthouse in fog"


async def test_a_file_that_is_gone_from_the_store_is_skipped_and_said(site: Site, sources: Sources) -> None:
    reference = {"type": "composition", "source": sources["image"][1], "strength": 0.5}
    job = await site.submit(references=[reference])
    media = site.ledger.media(UUID(sources["image"][1][6:])).uploaded
    site.parts.blobs.delete(media.path)
    inputs = await inputs_of(site, job)
    assert inputs["references"] == []
    assert inputs["skipped"] == [{"name": "references.0", "reason": "its file is not in the object store any more"}]
    assert [each["code"] for each in inputs["warnings"]] == ["media_gone", "task_changed"]
    assert (await site.http.post("/v1/jobs", json=submission(inputs))).status_code == 202


async def test_an_upload_that_was_deleted_before_uploads_were_kept_is_skipped(
    site: Site, sources: Sources, recorder: PostgresRecorder
) -> None:
    job = await site.submit(references=[{"type": "composition", "source": sources["image"][2], "strength": 0.5}])
    request = site.ledger.request_of(UUID(job["id"]), owner="admin")
    unused = described(await upload(site.http, encoded(picture(96))))
    source = f"media:{unused['id']}"
    request["recipe"]["references"][0]["source"] = source
    stored_as = store(recorder, request)
    site.ledger.execute(MEDIA, UUID(unused["id"]), DeleteMedia(NOW), Context("admin", "admin"))
    inputs = await inputs_of(site, {"urls": {"inputs": f"/v1/jobs/{stored_as}/inputs"}})
    [gone] = inputs["skipped"]
    assert gone["name"] == "references.0"
    assert gone["reason"].endswith(f"there is no {source}")


async def test_a_file_whose_event_cannot_be_read_is_skipped(site: Site, recorder: PostgresRecorder) -> None:
    job, media = await site.submit(), uuid4()
    recorder.write(Commit(uuid4(), [NewEvent(media, 1, "media.uploaded.v1", b"{")]))
    request = site.ledger.request_of(UUID(job["id"]), owner="admin")
    request["recipe"]["references"] = [{"type": "composition", "source": f"media:{media}", "strength": 0.5}]
    inputs = await inputs_of(site, {"urls": {"inputs": f"/v1/jobs/{store(recorder, request)}/inputs"}})
    assert (inputs["references"], inputs["prompt"]) == ([], job["prompt"])
    assert "cannot be read" in inputs["skipped"][0]["reason"]


async def test_an_asset_in_the_trash_is_still_given(site: Site) -> None:
    (asset,) = (await site.finished(quantity=1))["assets"]
    reference = {"type": "composition", "source": f"asset:{asset['id']}", "strength": 0.5}
    job = await site.submit(references=[reference])
    site.ledger.execute(ASSET, UUID(asset["id"]), TrashAsset(NOW), Context("admin", "admin"))
    assert (await inputs_of(site, job))["references"] == [reference]


async def test_a_store_that_does_not_answer_costs_no_input(site: Site, sources: Sources) -> None:
    class Silent(Blobs):
        async def exists(self, path: str) -> bool:
            raise BlobStoreUnavailable(f"The object store could not look for {path}: refused")

    job = await site.submit(references=[{"type": "composition", "source": sources["image"][0], "strength": 0.5}])
    async with on_store(site, Silent(BLOBS_URL)) as http:
        inputs = (await http.get(job["urls"]["inputs"])).json()
    assert (inputs["references"], inputs["skipped"]) == (job["references"], [])


async def test_the_inputs_of_a_retry_leave_its_number_of_outputs_away(site: Site) -> None:
    job = await site.submit()
    await site.start(job)
    await site.complete(job, 0)
    for index in (1, 2):
        await site.fail(job, index)
    retried = (await site.http.post(f"/v1/jobs/{job['id']}/retry")).json()
    inputs = await inputs_of(site, retried)
    assert inputs["skipped"] == [{"name": "quantity", "reason": "was 2; must be one of 1, 3, 6"}]
    values = values_of(inputs)
    assert values["seed"] == 43
    assert "negative_prompt" not in values  # the rule's, also of the job that ran again


async def test_inputs_for_another_job_type(site: Site) -> None:
    job = await site.submit(params={"sampler": "dpm++", "karras": True, "rho": 8.0, "floor": 2})
    answer = await site.http.get(job["urls"]["inputs"], params={"job_type": "sdxl_image_high"})
    assert answer.json()["job_type"] == "sdxl_image_high"
    assert {each["name"] for each in answer.json()["skipped"]} == {"rho", "floor"}
    refused = await site.http.get(job["urls"]["inputs"], params={"job_type": "x"})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "job_type")


# Lineage.


async def test_a_job_records_whose_inputs_it_took_over(site: Site) -> None:
    parent = await site.submit()
    child = await site.submit(parent_id=parent["id"])
    assert child["parent_id"] == parent["id"]
    assert (await site.get(f"/v1/jobs/{child['id']}"))["parent_id"] == parent["id"]
    request = site.ledger.request_of(UUID(child["id"]), owner="admin")
    assert request["parent_id"] == parent["id"]


async def test_a_parent_is_a_job_of_ones_own(site: Site) -> None:
    job = await site.submit()
    head = site.ledger.head()
    for unknown in (str(uuid4()), job["assets"][0]["id"], str(site.submit_as("bob"))):
        head = site.ledger.head()
        refused = await site.http.post("/v1/jobs", json=body(parent_id=unknown))
        [problem] = refused.json()["errors"]
        assert (refused.status_code, problem["path"]) == (422, "parent_id")
        assert problem["detail"] == f"must be the id of a job of yours; there is no job {unknown}"
    for wrong in ("42", 42, [job["id"]]):
        refused = await site.http.post("/v1/jobs", json=body(parent_id=wrong))
        assert [each["path"] for each in refused.json()["errors"]] == ["parent_id"]
    assert site.ledger.head() == head


async def test_a_bad_parent_and_bad_files_are_reported_at_once(site: Site) -> None:
    reference = {"type": "composition", "source": f"media:{uuid4()}", "strength": 0.5}
    refused = await site.http.post("/v1/jobs", json=body(parent_id=str(uuid4()), references=[reference]))
    assert {each["path"] for each in refused.json()["errors"]} == {"parent_id", "references.0.source"}


async def test_a_video_that_goes_on_keeps_its_own_parent_only_when_none_is_given(site: Site, ledger: Ledger) -> None:
    video_job = await site.finished(job_type="video_fast", quantity=1)
    source = f"asset:{video_job['assets'][0]['id']}"
    other = await site.submit(quantity=1)
    extend: Json = {"job_type": "video_fast", "quantity": 1, "media": {"video": source}}
    assert (await site.submit(**extend))["parent_id"] == video_job["id"]
    assert (await site.submit(**extend, parent_id=other["id"]))["parent_id"] == other["id"]


async def test_an_upload_of_a_reused_job_is_still_kept_for_it(site: Site, sources: Sources) -> None:
    source = sources["image"][1]
    job = await site.submit(references=[{"type": "composition", "source": source, "strength": 0.5}])
    again = await site.http.post("/v1/jobs", json=submission(await inputs_of(site, job)) | {"parent_id": job["id"]})
    assert again.status_code == 202
    media = site.ledger.media(UUID(source[6:]))
    assert isinstance(media, Uploaded)
    assert media.used_by == UUID(job["id"])
