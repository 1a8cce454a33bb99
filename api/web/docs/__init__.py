"""The page `/docs`: the description of the API, with everything that it needs from this server."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from another host, and no script in the page. The library sets styles of single elements."""

CACHE_CONTROL: Final = "private, max-age=3600"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the page: where it is in this package, and its type."""

    place: tuple[str, ...]
    media_type: str


PARTS: Final[Mapping[str, Part]] = {
    "start.js": Part(("docs", "start.js"), "text/javascript; charset=utf-8"),
    "swagger-ui.css": Part(("vendor", "swagger-ui-dist", "swagger-ui.css"), "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": Part(
        ("vendor", "swagger-ui-dist", "swagger-ui-bundle.js"), "text/javascript; charset=utf-8"
    ),
}


@router.get("/docs", response_model=None)
async def docs() -> Response:
    """The page."""
    content = _content(("docs", "index.html"))
    return Response(content, media_type="text/html", headers={"Content-Security-Policy": POLICY})


@router.get("/docs/{name}", response_model=None)
async def part(name: str) -> Response:
    """What the page loads."""
    found = PARTS.get(name)
    if found is None:
        raise HTTPException(404)
    return Response(_content(found.place), media_type=found.media_type, headers={"Cache-Control": CACHE_CONTROL})


@cache
def _content(place: tuple[str, ...]) -> bytes:
    return resources.files("api.web").joinpath(*place).read_bytes()
