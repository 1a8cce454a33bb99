"""Clients of the event stream that drop, at any moment, and resume."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

import httpx
import orjson

from tests.system.invariants import Heard

SILENCE_S_MAX: Final = 20.0
"""A comment comes every 15 s; a stream without is broken."""

NOT_NOW: Final = 503

CONNECTED_S: Final = (0.3, 12.0)
AGAIN_S: Final = (0.0, 2.0)


class Listener:
    """Hears one owner's events from the ledger's beginning, over many connections."""

    def __init__(self, owner: str, key: str, urls: Sequence[str], rng: random.Random) -> None:
        """`urls`: of each API; every connection is to any of them."""
        self.heard = Heard(owner)
        self.connections = 0
        self.restores = 0
        self._last_id = str(self.heard.after)
        self.wrong: list[str] = []
        self._urls = urls
        self._rng = rng
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(10, read=SILENCE_S_MAX),
            trust_env=False,
        )

    @property
    def position(self) -> int:
        """Of the last event that was heard to its end."""
        return self.heard.events[-1][0] if self.heard.events else self.heard.after

    async def run(self, stop: asyncio.Event) -> None:
        """Listen, drop and resume until `stop`."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(self._rng.uniform(*CONNECTED_S)):
                    await self._listen()
            except (TimeoutError, httpx.TransportError):
                pass  # dropped: by us, or by what happens to the API
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    async def _listen(self) -> None:
        headers = {"Last-Event-ID": self._last_id}
        async with self._http.stream("GET", f"{self._rng.choice(self._urls)}/v1/events", headers=headers) as answer:
            if answer.status_code != 200:
                if answer.status_code != NOT_NOW:
                    told = (await answer.aread()).decode()
                    self.wrong.append(f"{self.heard.owner} resumed with {headers}: {answer.status_code} {told}")
                return
            self.connections += 1
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif line == "":
                    if "id" in fields and "data" in fields:  # progress has no id
                        self._take(fields["event"], fields["id"], orjson.loads(fields["data"]))
                    fields = {}

    def _take(self, event: str, event_id: str, data: dict[str, Any]) -> None:
        heard, self._last_id = self.heard, event_id
        if event == "restored":  # what was heard after this position is no more
            self.restores += 1
            heard.events = [one for one in heard.events if one[0] <= data["position"]]
            heard.ids = heard.ids[: len(heard.events)]
            return
        heard.events.append((int(event_id.rpartition("-")[2]), data))
        heard.ids.append(event_id)
