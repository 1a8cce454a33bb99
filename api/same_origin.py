"""Whether a request that brings a cookie comes from a page of ours: browsers send cookies to every port of a host."""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def is_from_own_page(method: str, headers: Headers) -> bool:
    """Return False for what a page of another origin sent, and for a write that does not say where it comes from.

    `Sec-Fetch-Site` and `Origin` are set by browsers and cannot be set by a page. Reading by an address that somebody
    typed, and by a link of another page that is followed, is allowed: that page does not see the answer.
    """
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers.get("host", "")):
        return False
    site = headers.get("sec-fetch-site")
    if site is None:
        return origin is not None or method in SAFE
    if site in {"same-origin", "none"}:
        return True
    return method in SAFE and headers.get("sec-fetch-mode") == "navigate"


def _is_own(origin: str, host: str) -> bool:
    """Compare host and port alone: a proxy that ends TLS speaks plain HTTP with us. `null` is the origin of nobody."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return bool(parts.netloc) and parts.netloc.lower() == host.lower()
