"""An installation for processes to be killed in: what its clients say and hear, and when it is at rest."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import nats
import psycopg
from nats.js.errors import NotFoundError

from services.embedded import EmbeddedServers
from services.files.blobs import Blobs
from services.messaging.wire import (
    LEDGER_STREAM,
    WORK_STREAM,
    Report,
    ReportReply,
    inbox_prefix,
    report_subject,
    work_consumer,
    worker_name,
)
from tests.gpu_worker.hosting import Hosting, Prediction
from tests.system.facts import Fact
from tests.system.fleet import Fleet
from tests.system.installation import eventually
from tests.system.invariants import Place, Submission, facts_of

POOLS = ("sdxl", "wan")
LEASE_S = 3.0
HEARTBEAT_S = 0.5

GHOST = worker_name("worker", "ghost")
REST_S_MAX = 90.0

UNREST = """
select
  (select count(*) from views.jobs where status in ('queued', 'processing')) as open_jobs,
  (select count(*) from views.assets where status = 'completed' and thumbnail_sha256 is null) as without_thumbnail,
  (select count(*) from view_progress where position <> (select max(notification_id) from ledger)) as views_behind,
  (select count(*) from view_progress where slot <> 'live') as rebuilds
"""

Answered = Callable[[httpx.Response], None]


class Scene:
    """One ledger, all services, and a client who says again what he got no answer to, as the API's documents ask."""

    def __init__(self, fleet: Fleet, dsn: str, servers: EmbeddedServers, hosting: Hosting) -> None:
        self.fleet = fleet
        self.hosting = hosting
        self.client = fleet.client()
        self.place = Place(dsn, servers.nats_url, fleet.folder / "blobs")
        self.blobs = Blobs(self.place.blobs.as_uri())
        self.said: list[Submission] = []
        self.uploads: list[str] = []
        self.paid_twice: set[str] = set()
        """Orders at the provider that nobody will ever ask for: their ids died with a worker."""
        self._ordered_before: set[str] = set()
        self._worker_nats_url = servers.worker_nats_url
        self._owed: list[Callable[[], bool]] = []

    # What a client does.

    def call(self, method: str, path: str, told: Answered = lambda _: None, **given: Any) -> None:
        """A request. One whose answer is lost with the API is sent again by `say_again`."""

        def sent() -> bool:
            try:
                answer = self.client.request(method, path, **given)
            except httpx.TransportError:
                return False
            assert answer.is_success, answer.text
            told(answer)
            return True

        if not sent():
            self._owed.append(sent)

    def say_again(self) -> int:
        """Send again what was not answered; how much that was."""
        owed, self._owed = self._owed, []
        assert all(again() for again in owed)
        return len(owed)

    def submit(
        self, quantity: int = 1, job_type: str = "sdxl_image_fast", steps: int = 2, **headers: str
    ) -> Submission:
        """A job, under a key of its own."""
        submission, body = self.submission(job_type, steps)

        def told(answer: httpx.Response) -> None:
            submission.answer, submission.job_id = "accepted", answer.json()["id"]

        headers["Idempotency-Key"] = submission.tag
        self.call("POST", "/v1/jobs", told, json={**body, "quantity": quantity}, headers=headers)
        return submission

    def submission(self, job_type: str = "sdxl_image_fast", steps: int = 2) -> tuple[Submission, dict[str, Any]]:
        """What is said of a job, and its body."""
        submission = Submission(f"job-{len(self.said)}")
        self.said.append(submission)
        size = {"width": 64, "height": 64} if job_type.startswith("sdxl") else {}
        body = {"job_type": job_type, "prompt": "a fox", "tags": [submission.tag], "params": {"steps": steps, **size}}
        return submission, body

    def upload(self, content: bytes) -> None:
        """A picture; its id is the last one of `uploads`."""

        def told(answer: httpx.Response) -> None:
            self.uploads.append(answer.json()["id"])

        self.call("POST", "/v1/uploads", told, files={"file": ("a.png", content, "image/png")})

    def cancel(self, job_id: str | None) -> None:
        """A job."""
        self.call("POST", f"/v1/jobs/{job_id}/cancel")

    # What a worker does, said by one that is none: it leaves its jobs when and where the test wants it.

    def ghost_says(self, *reports: Report) -> list[ReportReply]:
        """The recorder's answers."""

        async def say() -> list[ReportReply]:
            client = await nats.connect(self._worker_nats_url, inbox_prefix=inbox_prefix(GHOST))
            try:
                asked = [
                    await client.request(report_subject(GHOST), report.model_dump_json().encode(), timeout=10)
                    for report in reports
                ]
                return [ReportReply.model_validate_json(message.data) for message in asked]
            finally:
                await client.close()

        replies = asyncio.run(say())
        assert all(reply.accepted for reply in replies), replies
        return replies

    # What the provider of hosted models has.

    def watch_orders(self) -> None:
        """`ordered` tells of what comes from here on."""
        self._ordered_before = set(self.hosting.predictions)

    def ordered(self) -> list[Prediction]:
        """The orders since, in their order."""
        return [one for one in self.hosting.predictions.values() if one.id not in self._ordered_before]

    def providers_of(self, job_id: str | None) -> list[str]:
        """Who, by the ledger, has each output in work; one for each note."""
        query = (
            "select convert_from(state, 'UTF8')::jsonb -> 'data' ->> 'provider' from ledger "
            "where topic like 'job.handed_over.%%' and originator_id = %s"
        )
        return [str(provider) for (provider,) in self.rows(query, UUID(str(job_id)))]

    # What time does, and what is there.

    def rows(self, statement: str, *given: object) -> list[tuple[Any, ...]]:
        """Ask Postgres, or tell it, as its administrator; the triggers of the ledger let him pass."""
        with psycopg.connect(self.place.dsn) as connection:
            connection.execute("set session_replication_role = replica")
            cursor = connection.execute(statement.encode(), given or None)
            return cursor.fetchall() if cursor.description else []

    def facts(self) -> list[Fact]:
        """The whole ledger."""
        return facts_of(self.place.dsn)

    def until(self, holds: Callable[[], bool], within_s: float = REST_S_MAX) -> None:
        """Wait for a condition, with a bound; a failure shows the logs."""
        eventually(holds, within_s, self.fleet.logs)

    def path_of(self, job_id: str | None, index: int = 0) -> str:
        """Where the file of an asset belongs, by the ledger: views may be behind."""
        query = (
            "select data ->> 'path' from (select convert_from(state, 'UTF8')::jsonb -> 'data' as data from ledger "
            "where topic like 'asset.reserved.%%') found where data ->> 'job_id' = %s and data -> 'index' = %s::jsonb"
        )
        ((path,),) = self.rows(query, job_id, str(index))
        return str(path)

    def file(self, path: str) -> Path:
        """A file of the object store, which may not be there."""
        return self.place.blobs / path

    def count(self, event: str, jobs: Sequence[str | None]) -> int:
        """How many events of this name these jobs have."""
        query = "select count(*) from ledger where topic like %s and originator_id = any (%s)"
        return int(self.rows(query, f"{event}.v%", [UUID(job) for job in jobs if job])[0][0])

    def pause(self, *services: str) -> None:
        """SIGSTOP."""
        for service in services:
            self.fleet.processes[service].send_signal(signal.SIGSTOP)

    def go_on(self, *services: str) -> None:
        """SIGCONT."""
        for service in services:
            self.fleet.processes[service].send_signal(signal.SIGCONT)

    def come_to_rest(self) -> None:
        """Wait until every job has ended and every follower is at the ledger's end, and nothing is left in WORK."""
        try:
            self.until(lambda: not any(self.rows(UNREST)[0]) and asyncio.run(self._streams_rest()))
        except AssertionError as late:
            raise AssertionError(f"{self.rows(UNREST)}, streams at rest: {asyncio.run(self._streams_rest())}") from late

    def stream_is_whole(self) -> bool:
        """Whether LEDGER has all that the ledger has."""
        return asyncio.run(self._last_sequence()) == self.rows("select max(notification_id) from ledger")[0][0]

    async def _last_sequence(self) -> int:
        client = await nats.connect(self.place.nats_url)
        try:
            return (await client.jetstream().stream_info(LEDGER_STREAM)).state.last_seq
        finally:
            await client.close()

    async def _streams_rest(self) -> bool:
        client = await nats.connect(self.place.nats_url)
        try:
            jetstream = client.jetstream()
            ledger = await jetstream.stream_info(LEDGER_STREAM)
            work = await jetstream.stream_info(WORK_STREAM)
        except NotFoundError:
            return False
        finally:
            await client.close()
        ((head,),) = self.rows("select max(notification_id) from ledger")
        return bool(ledger.state.last_seq == head and work.state.messages == 0)

    def lose_work(self) -> None:
        """NATS loses the stream of orders."""

        async def delete() -> None:
            client = await nats.connect(self.place.nats_url)
            await client.jetstream().delete_stream(WORK_STREAM)
            await client.close()

        asyncio.run(delete())

    def lose_a_message(self) -> None:
        """NATS loses the first message of LEDGER."""

        async def delete() -> None:
            client = await nats.connect(self.place.nats_url)
            await client.jetstream().delete_msg(LEDGER_STREAM, 1)
            await client.close()

        asyncio.run(delete())

    def has_consumers(self) -> bool:
        """Whether the dispatcher has made WORK and all that belongs to it: a dead worker's order comes again soon."""
        return asyncio.run(self._has_consumers())

    async def _has_consumers(self) -> bool:
        client = await nats.connect(self.place.nats_url)
        try:
            for pool in POOLS:
                consumer = await client.jetstream().consumer_info(WORK_STREAM, work_consumer(pool))
                assert consumer.config.ack_wait == LEASE_S
        except NotFoundError:
            return False
        finally:
            await client.close()
        return True
