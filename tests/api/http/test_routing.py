"""The table of routes finds what FastAPI's own search would find, for every method and path."""

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match

from api.app import ROUTERS
from api.http.routing import RouteTable
from tests.api.serving import Site

ROUTES = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
TABLE = RouteTable(ROUTES)

SEGMENTS = sorted({segment for route in ROUTES for segment in route.path.split("/") if not segment.startswith("{")})
SEGMENT = st.one_of(st.sampled_from([*SEGMENTS, "018f0000-0000-7000-8000-000000000000", "{}", "a%20b", "…"]), st.text())
PATHS = st.one_of(
    st.lists(SEGMENT, max_size=7).map(lambda segments: "/" + "/".join(segments)),
    st.sampled_from(ROUTES).flatmap(
        lambda route: st.lists(SEGMENT, min_size=5, max_size=5).map(lambda given: filled(route.path, given))
    ),
    st.text(),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])


def filled(path: str, segments: list[str]) -> str:
    left = iter(segments)
    return "/".join(next(left) if part.startswith("{") else part for part in path.split("/"))


def in_order(scope: dict[str, object]) -> APIRoute | None:
    """As Starlette searches: the first with path and method, else the first with the path."""
    matches = [(route.matches(scope)[0], route) for route in ROUTES]
    full = [route for match, route in matches if match is Match.FULL]
    return next(iter(full), None) or next((route for match, route in matches if match is Match.PARTIAL), None)


@given(METHODS, PATHS)
def test_the_table_finds_what_a_search_in_order_finds(method: str, path: str) -> None:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    match, found = TABLE.matches(scope)
    assert match is Match.FULL
    expected = in_order(scope)
    assert found.get("route") is expected
    if expected is not None:
        assert found["path_params"] == expected.matches(scope)[1]["path_params"]
        assert (TABLE.route_of(scope) is expected) == (expected.matches(scope)[0] is Match.FULL)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_every_route_is_found(route: APIRoute) -> None:
    scope = {"type": "http", "method": min(route.methods), "path": filled(route.path, ["x"] * 5), "headers": []}
    assert TABLE.route_of(scope) is route


def test_a_route_that_the_table_could_not_find_is_refused_at_once() -> None:
    router = APIRouter()
    router.add_api_route("/files/{path:path}", lambda: None)
    with pytest.raises(TypeError, match="cannot find"):
        RouteTable(router.routes)


async def test_a_path_without_the_method_names_all_that_it_takes(site: Site) -> None:
    for path, allowed in (
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/batches/x", "GET, HEAD, PATCH"),
        ("/v1/enhance", "POST"),
    ):
        answer = await site.http.delete(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["code"] == "method_not_allowed"
