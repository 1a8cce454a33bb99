"""Every answer is what OpenAPI says it is: nothing missing, nothing more."""

import re
from typing import Any

from pydantic import BaseModel, TypeAdapter

from api.http import schemas
from api.http.errors import KNOWN, TABLE, ApiError
from domain.errors import Refused
from tests.api.serving import Site, body
from tests.services.media_files import encoded, picture

JOB_KEYS = [
    "id",
    "status",
    "job_type",
    "model",
    "task",
    "prompt",
    "negative_prompt",
    "params",
    "quantity",
    "seed",
    "references",
    "media",
    "batch_id",
    "priority",
    "attempt",
    "progress",
    "queue",
    "error",
    "assets",
    "created_at",
    "started_at",
    "finished_at",
    "urls",
]
ASSET_KEYS = [
    "id",
    "job_id",
    "index",
    "status",
    "kind",
    "seed",
    "url",
    "thumbnail_url",
    "media_type",
    "width",
    "height",
    "bytes",
    "sha256",
    "rating",
    "saved",
    "title",
    "tags",
    "error",
    "completed_at",
]
LISTED_KEYS = ["prompt", "job_type", "model", "task", "batch_id"]
UPLOAD_KEYS = ["id", "kind", "media_type", "bytes", "sha256", "width", "height", "url"]
HISTORY_KEYS = ["position", "stream", "version", "type", "at", "actor", "correlation_id", "causation_id", "data"]


def check(model: Any, document: Any) -> None:
    """The document fits the model, which takes nothing unknown."""
    TypeAdapter(model).validate_python(document)


async def test_documents_are_what_their_schemas_say(site: Site) -> None:
    failed = await site.submit()
    await site.start(failed)
    await site.complete(failed, 0)
    await site.fail(failed, 1)
    await site.fail(failed, 2)
    waiting = (await site.http.post("/v1/jobs", json=body())).json()
    check(schemas.Job, waiting)
    assert set(JOB_KEYS) <= set(waiting)
    assert set(waiting) - set(JOB_KEYS) == {"enhanced_prompt", "parent_id", "tags", "warnings"}
    assert list(waiting["assets"][0]) == ASSET_KEYS
    assert list(waiting["urls"]) == ["get", "cancel", "history", "inputs"]
    for path, model in [
        (f"/v1/jobs/{waiting['id']}", schemas.Job),
        (f"/v1/jobs/{failed['id']}", schemas.Job),
        ("/v1/jobs", schemas.Page[schemas.Job]),
        (f"/v1/jobs/{failed['id']}/history", schemas.Page[schemas.HistoryItem]),
        (f"/v1/assets/{failed['assets'][0]['id']}", schemas.ListedAsset),
        ("/v1/workspace", schemas.Page[schemas.ListedAsset]),
        ("/v1/library", schemas.Page[schemas.ListedAsset]),
        ("/v1/models", schemas.CatalogPage[schemas.ModelEntry]),
        ("/v1/job-types", schemas.CatalogPage[schemas.JobTypeEntry]),
        ("/v1/admin/projections", schemas.Page[schemas.ProjectionState]),
        ("/v1/admin/queues", schemas.Page[schemas.QueueState]),
        ("/v1/admin/performance", schemas.Page[schemas.PerformanceState]),
        ("/v1/admin/dead-jobs", schemas.Page[schemas.DeadJob]),
    ]:
        check(model, await site.get(path))
    (asset,) = (await site.get("/v1/library"))["results"]
    assert list(asset) == ASSET_KEYS + LISTED_KEYS
    (item, *_) = (await site.get(f"/v1/jobs/{failed['id']}/history"))["results"]
    assert list(item) == HISTORY_KEYS
    check(schemas.CancelResult, (await site.http.post(f"/v1/jobs/{waiting['id']}/cancel")).json())
    uploaded = (await site.http.post("/v1/uploads", files={"file": encoded(picture())})).json()
    check(schemas.Upload, uploaded)
    assert list(uploaded) == UPLOAD_KEYS
    check(schemas.Problem, (await site.http.post("/v1/jobs", json={})).json())
    check(schemas.Problem, (await site.http.get("/v1/jobs/x")).json())


async def test_openapi_describes_every_call(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    calls = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert calls == {
        ("POST", "/v1/jobs"),
        ("POST", "/v1/enhance"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/{}"),
        ("POST", "/v1/jobs/{}/cancel"),
        ("POST", "/v1/jobs/{}/retry"),
        ("GET", "/v1/jobs/{}/history"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches"),
        ("GET", "/v1/batches/{}"),
        ("PATCH", "/v1/batches/{}"),
        ("POST", "/v1/batches/{}/cancel"),
        ("POST", "/v1/batches/{}/retry"),
        ("POST", "/v1/batches/{}/preferences"),
        ("GET", "/v1/jobs/{}/inputs"),
        ("GET", "/v1/assets/{}"),
        ("GET", "/v1/assets/{}/content"),
        ("GET", "/v1/assets/{}/thumbnail"),
        ("PUT", "/v1/assets/{}/rating"),
        ("PUT", "/v1/assets/{}/saved"),
        ("DELETE", "/v1/assets/{}/saved"),
        ("PATCH", "/v1/assets/{}"),
        ("DELETE", "/v1/assets/{}"),
        ("POST", "/v1/assets/{}/restore"),
        ("POST", "/v1/assets/{}/purge"),
        ("DELETE", "/v1/trash"),
        ("GET", "/v1/admin/jobs"),
        ("GET", "/v1/admin/jobs/{}"),
        ("PATCH", "/v1/admin/jobs/{}"),
        ("GET", "/v1/admin/jobs/{}/history"),
        ("POST", "/v1/admin/jobs/{}/cancel"),
        ("POST", "/v1/admin/jobs/{}/retry"),
        ("POST", "/v1/admin/assets/{}/purge"),
        ("DELETE", "/v1/admin/trash"),
        ("GET", "/v1/admin/workers"),
        ("GET", "/v1/admin/pools"),
        *(
            ("POST", f"/v1/admin/{kind}/{{}}/{word}")
            for kind in ("pools", "workers")
            for word in ("pause", "drain", "resume")
        ),
        ("POST", "/v1/uploads"),
        ("GET", "/v1/uploads/{}"),
        ("DELETE", "/v1/uploads/{}"),
        ("GET", "/v1/uploads/{}/content"),
        ("GET", "/v1/workspace"),
        ("DELETE", "/v1/workspace/{}"),
        ("GET", "/v1/library"),
        ("POST", "/v1/prompts"),
        ("GET", "/v1/prompts"),
        ("GET", "/v1/prompts/{}"),
        ("PATCH", "/v1/prompts/{}"),
        ("DELETE", "/v1/prompts/{}"),
        ("GET", "/v1/scores"),
        ("POST", "/v1/sign-in-links"),
        ("POST", "/v1/sign-out"),
        ("GET", "/v1/events"),
        ("GET", "/v1/models"),
        ("GET", "/v1/job-types"),
        ("GET", "/v1/admin/projections"),
        ("POST", "/v1/admin/projections/{}/rebuild"),
        ("GET", "/v1/admin/queues"),
        ("GET", "/v1/admin/performance"),
        ("GET", "/v1/admin/dead-jobs"),
        ("POST", "/v1/admin/dead-jobs/{}/retry"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    }
    submit = document["paths"]["/v1/jobs"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SubmitBody"}
    assert {one["name"] for one in submit["parameters"]} == {"Idempotency-Key", "Prefer", "Cancel-After"}
    form = document["paths"]["/v1/uploads"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert (list(form["properties"]), form["additionalProperties"]) == (["file"], False)
    assert document["security"] == [{"token": []}, {"cookie": []}]
    named = set(re.findall(r"#/components/schemas/([\w.-]+)", str(document)))
    assert named <= set(document["components"]["schemas"])


def test_every_refusal_has_its_line_in_the_table() -> None:
    def all_of(kind: type) -> set[type]:
        return {kind}.union(*(all_of(one) for one in kind.__subclasses__()))

    ours = {
        one for known in KNOWN for one in all_of(known) if one.__module__.split(".")[0] in {"api", "domain", "services"}
    }
    assert {ApiError, Refused} <= ours
    assert {getattr(one, "code", None) for one in ours} <= set(TABLE)
    assert issubclass(schemas.Problem, BaseModel)


async def test_programs_can_make_a_client_of_the_document(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)
    for operation in operations:
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                assert content.get("schema"), (operation["operationId"], status, media_type)
                is_problem = content["schema"].get("$ref") == "#/components/schemas/Problem"
                assert is_problem is (media_type == "application/problem+json"), (operation["operationId"], status)
    guarded = [operation for operation in operations if operation.get("security") != []]
    assert all({"401", "429", "503"} <= set(operation["responses"]) for operation in guarded)
    assert all("Retry-After" in operation["responses"]["429"]["headers"] for operation in guarded)
    sent = document["paths"]["/v1/assets/{asset_id}/content"]["get"]["responses"]["200"]["content"]
    assert sent["application/octet-stream"]["schema"]["contentMediaType"] == "application/octet-stream"
