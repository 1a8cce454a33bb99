"""The open connections by address, and which one is closed to make room.

A connection without a request in work waits only for its client. So if there are too many, the one that has waited
longest is closed, and a new one is accepted: a client that opens connections without sending requests cannot keep
others out.
"""

import ipaddress
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from starlette.types import Scope
from uvicorn.server import ServerState

from api.http.limits.rates import WaitingLine

IPV6_NETWORK_BITS: Final = 64
"""The prefix that a customer of a provider usually has: its addresses count as one."""

UNKNOWN: Final = "unknown"

UNWANTED_BYTES_PER_S_MAX: Final = 32 * 1024 * 1024
UNWANTED_BYTES_AT_ONCE: Final = 64 * 1024 * 1024
"""Bytes of refused requests' bodies that are read from one address, per second and at once. A client that sends the
next one as soon as it is answered would keep the event loop busy."""


class IdleConnection(Protocol):
    """A connection that can be closed to make room."""

    address: str

    def make_room(self) -> None:
        """Close it: another one needs the place."""


class Crowd:
    """The connections of one server. For one event loop.

    `unwanted` is a line for each address, for the bytes of bodies of refused requests.
    """

    def __init__(self) -> None:
        self._connected: dict[str, int] = {}
        self._here: set[IdleConnection] = set()
        self._waiting: dict[str, dict[IdleConnection, None]] = {}
        self.unwanted = WaitingLine(UNWANTED_BYTES_PER_S_MAX, UNWANTED_BYTES_AT_ONCE)

    def of(self, address: str) -> int:
        """The number of connections of the address."""
        return self._connected.get(address, 0)

    def joins(self, connection: IdleConnection) -> None:
        """A new connection."""
        self._connected[connection.address] = self.of(connection.address) + 1
        self._here.add(connection)
        self.waits(connection)

    def waits(self, connection: IdleConnection) -> None:
        """It has no request in work."""
        if connection not in self._here:  # its request ended after it was closed
            return
        waiting = self._waiting.setdefault(connection.address, {})
        waiting.pop(connection, None)
        waiting[connection] = None

    def works(self, connection: IdleConnection) -> None:
        """It has a request in work."""
        waiting = self._waiting.get(connection.address)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._waiting[connection.address]

    def leaves(self, connection: IdleConnection) -> None:
        """It is closed."""
        self._here.discard(connection)
        self.works(connection)
        left = self.of(connection.address) - 1
        if left > 0:
            self._connected[connection.address] = left
        else:
            self._connected.pop(connection.address, None)

    def make_room(self, newcomer: IdleConnection, address: str | None = None) -> bool:
        """Close the connection that has waited longest, of `address` or of the one with most; False if none waits."""
        addresses = (
            [address] if address is not None else sorted(self._waiting, key=lambda one: -len(self._waiting[one]))
        )
        for one in addresses:
            for connection in self._waiting.get(one, ()):
                if connection is not newcomer:
                    self.works(connection)
                    connection.make_room()
                    return True
        return False


_CROWDS: WeakKeyDictionary[ServerState, Crowd] = WeakKeyDictionary()


def crowd_of(server: ServerState) -> Crowd:
    """The connections of this server."""
    return _CROWDS.setdefault(server, Crowd())


def counted_as(host: str | None) -> str:
    """The address as which a client counts: of an IPv6 address its network."""
    if host is None:
        return UNKNOWN
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], IPV6_NETWORK_BITS), strict=False))
    except ValueError:
        return host


def address_of(scope: Scope) -> str:
    """The sender's address: behind a trusted proxy, that of the proxy's client."""
    client = scope.get("client")
    return counted_as(None if client is None else client[0])
