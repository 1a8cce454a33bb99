"""A reverse proxy that the settings name is believed about its clients; everybody else is not."""

from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from api.http.limits.open_connections import address_of
from api.run import server_config

CLIENT = "203.0.113.9"
PROXIES = "127.0.0.1, 10.0.0.0/8"


async def seen(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the address that a request counts under, and its scheme."""
    await JSONResponse({"address": address_of(scope), "scheme": scope["scheme"]})(scope, receive, send)


async def asked_from(peer: str, trusted: str, forwarded_for: str) -> Any:
    """What the application sees of a request that `peer` passes on."""
    config = server_config(seen, trusted)
    config.load()
    transport = httpx.ASGITransport(config.loaded_app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://darkroom") as http:
        headers = {"X-Forwarded-For": forwarded_for, "X-Forwarded-Proto": "https"}
        return (await http.get("/", headers=headers)).json()


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.7", "10.255.255.255"])
async def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert await asked_from(peer, PROXIES, CLIENT) == {"address": CLIENT, "scheme": "https"}


@pytest.mark.parametrize(("peer", "trusted"), [("192.0.2.1", PROXIES), ("11.0.0.7", PROXIES), ("127.0.0.1", "")])
async def test_everybody_else_is_not_believed(peer: str, trusted: str) -> None:
    assert await asked_from(peer, trusted, CLIENT) == {"address": peer, "scheme": "http"}


@pytest.mark.parametrize("claimed", ["192.0.2.77", "10.0.0.9", "127.0.0.1", "nonsense"])
async def test_a_client_cannot_claim_another_address_through_a_trusted_proxy(claimed: str) -> None:
    assert (await asked_from("10.0.0.7", PROXIES, f"{claimed}, {CLIENT}"))["address"] == CLIENT


async def test_a_clients_own_proxies_count_as_the_client_whatever_they_say() -> None:
    assert (await asked_from("10.0.0.7", PROXIES, f"192.0.2.77, {CLIENT}, 10.0.0.8"))["address"] == CLIENT
