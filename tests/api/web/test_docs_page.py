"""The page `/docs` works without any other host, and what it loads is what the manifest says."""

import hashlib
import re

import pytest

from api.web.docs import PARTS
from api.web.vendor import FOLDER, manifest
from tests.api.serving import Site


async def test_the_page_loads_from_this_server_alone(site: Site) -> None:
    page = await site.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {f"docs/{name}" for name in PARTS} < set(loaded)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", page.text)
    for path in loaded:
        assert (await site.http.get(f"/{path}")).status_code == 200, path
    types = {name: (await site.http.get(f"/docs/{name}")).headers["content-type"] for name in PARTS}
    assert types == {name: part.media_type for name, part in PARTS.items()}


@pytest.mark.parametrize("name", ["index.html", "..%2Findex.html", "__init__.py", "manifest.json", "x"])
async def test_nothing_else_is_served(site: Site, name: str) -> None:
    assert (await site.http.get(f"/docs/{name}")).status_code == 404


async def test_a_stranger_sees_no_page(site: Site) -> None:
    site.http.headers.pop("Authorization")
    for path in ("/docs", "/docs/start.js", "/redoc"):
        assert (await site.http.get(path)).status_code == 401


def test_what_is_vendored_is_what_the_manifest_says() -> None:
    for name, library in manifest().items():
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (FOLDER / name).iterdir()}
        assert files == library["files"]
        assert "LICENSE" in files
