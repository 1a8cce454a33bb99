"""The whole API from outside: every route of its document, and what it takes to call each as somebody."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx

from domain.json_type import Json
from tests.api.serving import Site, body
from tests.services.media_files import encoded, picture

WITHOUT_OWNER: Final = {
    ("GET", "/healthz"): "says nothing but that the process serves",
    ("GET", "/readyz"): "says nothing but whether the servers are there",
    ("GET", "/v1/models"): "the catalog, the same for everybody",
    ("GET", "/v1/job-types"): "the catalog, the same for everybody",
    ("GET", "/v1/events"): "a stream, listened to apart",
}
"""What the walk leaves out, and why."""

ADMINS: Final = ("/v1/admin/", "/metrics")
"""What begins so is the administrator's alone."""

NOBODYS: Final = str(uuid4())
"""An id that nothing has."""

SUBMIT: Final = body(quantity=1)
ITEM: Final = {"template": "fog", "job_type": "sdxl_image_fast", "prompt": "a lighthouse", "quantity": 1}
BATCH: Final = {"name": "harbour", "collection": "sea", "items": [ITEM]}
PROMPT: Final = {"title": "fog", "prompt": "a lighthouse in fog", "job_type": "sdxl_image_fast", "tags": ["sea"]}

BODIES: Final[Mapping[tuple[str, str], Json]] = {
    ("POST", "/v1/jobs"): SUBMIT,
    ("POST", "/v1/enhance"): {"prompt": "a fox", "job_type": "sdxl_image_fast"},
    ("POST", "/v1/batches"): BATCH,
    ("POST", "/v1/prompts"): PROMPT,
    ("PUT", "/v1/assets/{asset_id}/rating"): {"score": 4},
    ("PATCH", "/v1/assets/{asset_id}"): {"title": "dusk", "tags": ["sea"]},
    ("PATCH", "/v1/batches/{batch_id}"): {"name": "dusk"},
    ("POST", "/v1/batches/{batch_id}/retry"): {},
    ("POST", "/v1/batches/{batch_id}/preferences"): {"winner": NOBODYS, "loser": str(uuid4())},
    ("PATCH", "/v1/prompts/{prompt}"): {"title": "dusk"},
}
"""A body that the route takes, for every route that has one but for the form of an upload."""

FORMS: Final = {("POST", "/v1/uploads")}

QUERIES: Final[Mapping[str, Sequence[Mapping[str, str]]]] = {
    "/v1/scores": [{"by": by} for by in ("prompt", "model", "job_type")],
}
"""What a list cannot be asked without."""


def _guide(source: str) -> Json:
    """A picture that a job starts from."""
    return {"type": "composition", "source": source, "strength": 0.5}


SOURCED: Final[Sequence[tuple[str, Callable[[str], Json]]]] = [
    ("/v1/jobs", lambda source: SUBMIT | {"references": [_guide(source)]}),
    ("/v1/jobs", lambda source: SUBMIT | {"job_type": "video_fast", "media": {"image": source}}),
    ("/v1/jobs", lambda source: SUBMIT | {"job_type": "video_fast", "media": {"video": source}}),
    ("/v1/batches", lambda source: BATCH | {"base": source}),
    ("/v1/batches", lambda source: BATCH | {"items": [ITEM | {"references": [_guide(source)]}]}),
]
"""Bodies that name a file of somebody."""

COMPARISON: Final = {
    "kind": "comparison",
    "prompt": "a lighthouse",
    "seed": 3,
    "variants": [{"job_type": name, "quantity": 1} for name in ("sdxl_image_fast", "sdxl_image_high")],
}

WITHIN: Final[Sequence[tuple[str, str, Json, Callable[[str], Json]]]] = [
    (
        "/v1/batches/{batch_id}/preferences",
        "/v1/batches",
        COMPARISON,
        lambda asset: {"winner": asset, "loser": NOBODYS},
    ),
]
"""A route below something of one's own, how that is made, and a body that names something of somebody else's."""

MAKERS: Final = {"batch_id": ("/v1/batches", BATCH), "prompt": ("/v1/prompts", PROMPT)}
"""Path parameters whose ids a call gives."""

NAMED: Final = {"name": ["jobs", "history"]}
"""Path parameters that are no ids."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path of the document."""

    method: str
    path: str
    operation: Json

    @property
    def parameters(self) -> list[str]:
        """Those in the path."""
        return [one["name"] for one in self.operation.get("parameters", []) if one["in"] == "path"]

    @property
    def queries(self) -> set[str]:
        """Those behind it."""
        return {one["name"] for one in self.operation.get("parameters", []) if one["in"] == "query"}

    def at(self, identifier: str) -> str:
        """Its address, whatever its parameters are called."""
        path = self.path
        for name in self.parameters:
            path = path.replace(f"{{{name}}}", identifier)
        return path

    def sent(self) -> dict[str, Any]:
        """What a call needs in addition to its address."""
        if (self.method, self.path) in FORMS:
            return {"files": {"file": ("fog.png", encoded(picture(64, 48), "png"))}}
        given = BODIES.get((self.method, self.path))
        return {} if given is None else {"json": given}


def routes_of(document: Json) -> list[Route]:
    """Every route that has an owner; what has none is named in `WITHOUT_OWNER`. Files can be asked for by HEAD too."""
    found = [
        Route(method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if (method.upper(), path) not in WITHOUT_OWNER
    ]
    found += [Route("HEAD", one.path, one.operation) for one in found if one.method == "GET" and _is_file(one)]
    for route in found:
        how = (route.method, route.path)
        if route.path.startswith(ADMINS):
            continue
        assert "requestBody" not in route.operation or how in FORMS or how in BODIES, f"give BODIES a body for {how}"
    return found


def _is_file(route: Route) -> bool:
    """Answers of files can be partial."""
    return "206" in route.operation["responses"]


@dataclass
class Somebody:
    """An owner: a client with the key, and the ids of all that is the owner's, by path parameter."""

    name: str
    key: str
    http: httpx.AsyncClient
    ids: dict[str, list[str]] = field(default_factory=dict)

    def ids_for(self, *parameters: str) -> list[str]:
        """Every id for these parameters, and one of each other kind: an asset's id is tried as a job's too."""
        found = [one for name in parameters for one in self.ids[name]]
        return list(dict.fromkeys(found + [ids[0] for ids in self.ids.values()]))

    async def ask(self, route: Route, identifier: str = "", **more: Any) -> httpx.Response:
        """Call a route."""
        return await self.http.request(route.method, route.at(identifier), **(route.sent() | more))


async def make_one_of_everything(site: Site, paths: set[str]) -> dict[str, list[str]]:
    """Jobs in every state, their assets in every state, an upload, a batch, a prompt; the ids by path parameter."""
    finished = await site.finished()
    for asset in finished["assets"]:
        await site.thumbnail(asset)
    rated, saved, trashed = [asset["id"] for asset in finished["assets"]]
    await _done(site, "PUT", f"/v1/assets/{rated}/rating", json={"score": 5})
    await _done(site, "PATCH", f"/v1/assets/{rated}", json={"title": "fog", "tags": ["sea"]})
    await _done(site, "PUT", f"/v1/assets/{saved}/saved")
    await _done(site, "DELETE", f"/v1/assets/{trashed}")
    other = await site.finished(quantity=1, seed=7)
    partly = await site.submit()
    await site.start(partly)
    await site.complete(partly, 0)
    for index in (1, 2):
        await site.fail(partly, index)
    running = await site.submit(quantity=1)
    await site.start(running)
    canceled = await site.submit(quantity=1)
    await _done(site, "POST", f"/v1/jobs/{canceled['id']}/cancel")
    waiting = await site.submit(quantity=1, tags=["sea"])
    await _done(site, "POST", "/v1/enhance", json={"prompt": "a fox", "job_type": "sdxl_image_fast"})
    form = {"file": ("fog.png", encoded(picture(64, 64), "png"))}
    upload = await _done(site, "POST", "/v1/uploads", files=form)
    begun = await site.submit(quantity=1, references=[_guide(f"media:{upload['id']}")])
    again = await _done(site, "POST", f"/v1/jobs/{partly['id']}/retry")
    jobs = [finished, other, partly, running, canceled, waiting, begun, again]
    ids = {
        "job_id": [job["id"] for job in jobs],
        "asset_id": [asset["id"] for job in jobs for asset in job["assets"]],
        "media": [upload["id"]],
    }
    for parameter, (path, made_of) in MAKERS.items():
        if path in paths:
            made = await _done(site, "POST", path, json=made_of)
            ids[parameter] = [made["id"]]
    await asyncio.to_thread(site.project)
    return ids


async def _done(site: Site, method: str, path: str, **sent: Any) -> Json:
    await asyncio.to_thread(site.project)
    response = await site.http.request(method, path, **sent)
    assert response.status_code < 300, (method, path, response.text)
    document: Json = response.json() if response.content else {}
    return document
