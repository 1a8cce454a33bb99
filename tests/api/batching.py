"""What the tests of batches share: bodies that are fine but for a change, and workers that take an item's job."""

from typing import Any, Final

from domain.aggregates.media import media_id
from domain.commands import UploadMedia
from domain.json_type import Json
from services.ledger import MEDIA, Context
from tests.api.serving import Site, body
from tests.spec import NOW

SHA256 = "ab" * 32
ZEROS: Final = dict.fromkeys(
    [
        "queued",
        "processing",
        "succeeded",
        "partially_succeeded",
        "failed",
        "canceled",
        "aborted",
        "rejected",
    ],
    0,
)


def item(template: str | None, **changes: Any) -> Json:
    """An item that is fine but for `changes`."""
    return body(quantity=1) | ({} if template is None else {"template": template}) | changes


def batch(*items: Any, **changes: Any) -> Json:
    """A batch of these items."""
    return {"name": "Foxes", "collection": "Autumn", "items": list(items)} | changes


async def opened(site: Site, content: Json, **headers: str) -> Json:
    """A batch, accepted."""
    response = await site.http.post("/v1/batches", json=content, headers=headers)
    assert response.status_code == 202, response.text
    document: Json = response.json()
    return document


def counts(**some: int) -> Json:
    """The counts with all others 0."""
    return ZEROS | some


def uploaded(site: Site, kind: Any = "image", media_type: str = "image/png", owner: str = "admin") -> str:
    """An upload, as a source."""
    identifier = media_id(owner, SHA256)
    command = UploadMedia(owner, kind, media_type, 1000, SHA256, NOW, 64, 48)
    site.ledger.execute(MEDIA, identifier, command, Context(owner, owner))
    return f"media:{identifier}"


async def job_of(site: Site, item: Json) -> Json:
    """The job of an item."""
    return await site.get(f"/v1/jobs/{item['job_id']}")


async def finish(site: Site, item: Json, *, fail: tuple[int, ...] = ()) -> None:
    """A worker takes the item's job and makes every output but these."""
    job = await job_of(site, item)
    await site.start(job)
    for index in range(job["quantity"]):
        await (site.fail(job, index) if index in fail else site.complete(job, index))


async def retried(site: Site, document: Json, status: int = 202, **asked: Any) -> Json:
    """The answer to a retry."""
    response = await site.http.post(f"/v1/batches/{document['id']}/retry", **asked)
    assert response.status_code == status, response.text
    answered: Json = response.json()
    return answered
