"""Checks that a request with a cookie comes from our own page: browsers send cookies to every port of a host."""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def is_from_own_page(method: str, headers: Headers) -> bool:
    """Return False for requests from pages of another origin, and for writes without an origin.

    Browsers set `Sec-Fetch-Site` and `Origin`, and a page cannot change them. Reading is allowed for a typed address,
    and for a followed link of another page: that page does not see the answer.
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
    """Compare only host and port: a proxy that terminates TLS connects to us by plain HTTP.

    `null` matches no origin.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return bool(parts.netloc) and parts.netloc.lower() == host.lower()
