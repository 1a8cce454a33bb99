"""Who is let in, and how: the token in a header, or in the cookie that a browser gets once."""

from api.identity import COOKIE
from tests.api.serving import TOKEN, Site, body

CALLS = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/events"),
    ("GET", "/v1/admin/queues"),
    ("GET", "/v1/models"),
]


async def test_nobody_is_let_in_without_the_token(site: Site) -> None:
    for authorization in (None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer é"):
        for method, path in CALLS:
            headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
            site.http.headers.pop("Authorization", None)
            response = await site.http.request(method, path, headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), (authorization, path)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert response.headers["content-type"] == "application/problem+json"
            assert TOKEN not in response.text
    assert site.ledger.head() == 0


async def test_health_is_open(site: Site) -> None:
    site.http.headers.pop("Authorization")
    assert (await site.http.get("/healthz")).json() == {"status": "alive"}
    ready = await site.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})


async def test_a_browser_opens_the_link_once_and_keeps_a_cookie(site: Site) -> None:
    site.http.headers.pop("Authorization")
    opened = await site.http.get("/", params={"token": TOKEN})
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    index = await site.http.get("/")
    assert index.json()["openapi"] == "/openapi.json"
    assert (await site.http.post("/v1/jobs", json=body())).status_code == 202


async def test_a_wrong_link_lets_nobody_in(site: Site) -> None:
    site.http.headers.pop("Authorization")
    for wrong in ("", "wrong", "é"):
        response = await site.http.get("/", params={"token": wrong})
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert "set-cookie" not in response.headers


async def test_what_is_not_there_is_a_problem_too(site: Site) -> None:
    for method, path, status, code in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("DELETE", "/v1/events", 405, "method_not_allowed"),
    ]:
        response = await site.http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
