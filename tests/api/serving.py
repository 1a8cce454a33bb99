"""What the tests of the API share: a worker's reports as commands, and a server that streams."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers

from api.app import Parts, end_streams
from api.batches.commands import open_batch
from api.http.idempotency import asked_by
from api.http.protocol import BoundedConnection
from api.jobs.draft import draft_of
from api.jobs.submission import (
    submission_of,
)
from domain.commands import JobCommand, ReportAssetCompleted, ReportAssetFailed, StartAttempt, ThumbnailAsset
from domain.events import AssetCompleted, AssetThumbnailed, ErrorClass, Failure
from services.ledger import ASSET, JOB, Context, Ledger
from tests.conftest import Clock

TOKEN = "a-token-of-the-administrator"
GIB = 1024**3
BLOBS_URL = "memory:///"
BODY = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse in fog", "quantity": 3, "seed": 42}

Json = dict[str, Any]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, 20 s at most."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def body(**changes: Any) -> Json:
    """A submission that is fine but for `changes`."""
    return BODY | changes


def picture(index: int) -> bytes:
    """What stands for a PNG."""
    return bytes((index + offset) % 251 for offset in range(1_000 + index))


@dataclass
class Site:
    """The API, a worker that reports to the ledger, and views that follow when asked to."""

    http: httpx.AsyncClient
    ledger: Ledger
    project: Callable[[], None]
    parts: Parts
    clock: Clock
    owner: str = "admin"

    async def submit(self, **changes: Any) -> Json:
        """A job, accepted."""
        response = await self.http.post("/v1/jobs", json=body(**changes))
        assert response.status_code == 202, response.text
        job: Json = response.json()
        return job

    async def get(self, path: str, **query: Any) -> Json:
        """A document, after the views have caught up."""
        await asyncio.to_thread(self.project)
        response = await self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        document: Json = response.json()
        return document

    async def finished(self, **changes: Any) -> Json:
        """A job, with every file."""
        job = await self.submit(**changes)
        await self.start(job)
        for index in range(job["quantity"]):
            await self.complete(job, index)
        return await self.get(f"/v1/jobs/{job['id']}")

    async def start(self, job: Json, attempt: int = 1) -> None:
        """A worker takes it."""
        await self.report(job, StartAttempt(attempt, "gpu-1", self.clock.tick()))

    async def complete(self, job: Json, index: int, attempt: int = 1) -> None:
        """A worker wrote one file."""
        content = picture(index)
        is_video = job["job_type"].startswith("video")
        path = f"{job['job_type']}/{self.owner}/{job['id']}_{index}.{'mp4' if is_video else 'png'}"
        await asyncio.to_thread(self.parts.blobs.put_once, path, content)
        made = completed_with(content, attempt)
        if is_video:
            made = made.model_copy(update={"media_type": "video/mp4"})
        await self.report(job, ReportAssetCompleted(index, made, self.clock.tick()))

    async def thumbnail(self, asset: Json) -> bytes:
        """The service made its thumbnail; what stands for a WebP."""
        content = f"small {asset['index']}".encode() * 20
        path = f"thumbnails/{self.owner}/{asset['id']}.webp"
        await asyncio.to_thread(self.parts.blobs.put_once, path, content)
        sha256 = hashlib.sha256(content).hexdigest()
        made = AssetThumbnailed(sha256=sha256, bytes=len(content), width=256, height=256, path=path)
        command = ThumbnailAsset(made, self.clock.tick())
        await asyncio.to_thread(self.ledger.execute, ASSET, UUID(asset["id"]), command, Context("thumbnails"))
        return content

    async def fail(self, job: Json, index: int, attempt: int = 1) -> None:
        """A worker could not make one."""
        error = Failure(error_class=ErrorClass.INVALID_INPUT, message="The prompt has no end.")
        await self.report(job, ReportAssetFailed(attempt, index, error, self.clock.tick()))

    def submit_as(self, owner: str) -> UUID:
        """A job of somebody else: its id. Blocks."""
        command = submission_of(draft_of(body()), asked_by(owner, Headers({}), self.clock()), self.parts.catalog)
        self.ledger.execute(JOB, command.job_id, command, Context(actor=owner, owner=owner))
        return command.job_id

    def batch_as(self, owner: str) -> UUID:
        """A batch of somebody else: its id. Blocks."""
        asked = asked_by(owner, Headers({}), self.clock())
        answered = open_batch(self.parts, asked, {"name": "Theirs", "items": [BODY | {"template": "Fox"}]})
        identifier: UUID = answered.document["id"]
        return identifier

    async def report(self, job: Json, command: JobCommand) -> None:
        """What a recorder does."""
        await asyncio.to_thread(self.ledger.execute, JOB, UUID(job["id"]), command, Context(actor="gpu-1"))


def completed_with(content: bytes, attempt: int) -> AssetCompleted:
    """The file's facts: each `picture` took a GiB more than the one before."""
    return AssetCompleted(
        attempt=attempt,
        sha256=hashlib.sha256(content).hexdigest(),
        pixels_sha256=hashlib.sha256(content).hexdigest(),
        media_type="image/png",
        bytes=len(content),
        width=256,
        height=256,
        render_ms=1_200,
        store_ms=8,
        worker_versions={"diffusers": "0.42.0"},
        peak_memory_bytes=(1 + len(content) % 1_000) * GIB,
    )


@dataclass
class AServer:
    """uvicorn on a free port of this machine, in the test's event loop."""

    app: FastAPI
    port: int = 0
    _server: uvicorn.Server | None = None
    _serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many it holds."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def start(self) -> None:
        """Serve from now on."""
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as uvloop has it
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            http=BoundedConnection,
            server_header=False,
            ws="none",
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve([listening]))  # without its signal handlers
        server = self._server
        await until(lambda: server.started)

    async def stop(self) -> None:
        """Stop as `darkroom up` does."""
        if self._server is None or self._serving is None:
            return
        end_streams(self.app)
        self._server.should_exit = True
        async with asyncio.timeout(20):
            await self._serving

    @asynccontextmanager
    async def events(self, after: int | None = None, token: str = TOKEN) -> AsyncIterator["Events"]:
        """An open event stream."""
        headers = {"Authorization": f"Bearer {token}"} | ({} if after is None else {"Last-Event-ID": str(after)})
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False) as client,
            client.stream("GET", "/v1/events", headers=headers) as response,
        ):
            assert response.status_code == 200
            yield Events(response.aiter_lines())


@dataclass
class Events:
    """What came over a stream, event by event."""

    lines: AsyncIterator[str]
    comments: int = 0
    _fields: dict[str, str] = field(default_factory=dict)

    async def take(self) -> tuple[int | None, str, Json]:
        """The next event: its id, its type, its data. Raises `StopAsyncIteration` when the server hangs up."""
        async with asyncio.timeout(20):
            while True:
                line = await anext(self.lines)
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    self._fields[name] = value
                elif "data" in self._fields:
                    fields, self._fields = self._fields, {}
                    position = int(fields["id"]) if "id" in fields else None
                    return position, fields["event"], json.loads(fields["data"])
                else:
                    self._fields = {}

    async def until(self, position: int) -> list[tuple[int | None, str, Json]]:
        """Every event up to the one at `position`."""
        taken = [await self.take()]
        while taken[-1][0] != position:
            taken.append(await self.take())
        return taken
