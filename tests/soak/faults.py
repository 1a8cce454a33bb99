"""What goes wrong, when, and in which order: decided by a seed before anything runs."""

import asyncio
import random
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import nats
import nats.errors
import psutil  # type: ignore[import-untyped]
import psycopg

from domain.events import JobPromptEnhanced
from services.wire import LEDGER_STREAM, NoteReport, report_subject
from tests.soak.fleet import LEASE_S, SERVICES, WORKERS, WRONG, Fleet
from tests.system.invariants import Place

GAP_S: Final = 2.6
"""Mean pause between the beginnings of two faults: several are at work at once."""

BUSY_S_MAX: Final = 4.0
"""A worker is stopped in mid-job; so long it is waited for that it has one."""

PAST_LEASE_S: Final = (LEASE_S + 1.5, LEASE_S + 4.0)

CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()
"""

RUNNING = "select job_id, attempt, worker from views.queue where status = 'running' limit 1"

KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("kill", "postgres"),
    ("kill", "nats"),
    ("lose the store", "nats"),
    ("cut connections", "postgres"),
    ("line away", "postgres"),
    ("lose answers", "postgres"),
    ("line hangs", "postgres"),
    ("line away", "nats"),
    ("damage the stream", "nats"),
    ("oversize report", "recorder"),
    *(("kill", service) for service in SERVICES),
    *(("stop past a lease", service) for service in ("recorder", "dispatcher", "reaper", "projector")),
    *(("kill", f"worker-{worker}") for worker in WORKERS),
    *(("stop past the lease", f"worker-{worker}") for worker in WORKERS),
    *(("line hangs past the lease", f"worker-{worker}") for worker in WORKERS),
    ("clock jumps", f"worker-{WRONG}"),
)
"""Every kind of fault and what it befalls."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`at_s`: after the beginning. `measure`: seconds that it lasts, or what else its kind has a number of."""

    at_s: float
    kind: str
    target: str
    measure: float

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.kind}: {self.target} ({self.measure:.1f})"


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults of a seed. Each kind comes once in the order that the seed shuffles, and then anew."""
    rng = random.Random(f"faults of {seed}")
    gap_s = min(GAP_S, seconds / len(KINDS))
    faults: list[Fault] = []
    while True:
        for kind, target in rng.sample(KINDS, len(KINDS)):
            at_s = (len(faults) + rng.uniform(0.1, 0.9)) * gap_s
            if at_s >= seconds:
                return faults
            faults.append(Fault(round(at_s, 2), kind, target, round(_measure(kind, rng), 2)))


def _measure(kind: str, rng: random.Random) -> float:
    match kind:
        case "clock jumps":
            return rng.choice((-1, 1)) * rng.uniform(60, 86_400)
        case "damage the stream":
            return rng.random()
        case "lose answers":
            return rng.randint(1, 4)
        case "line away":
            return rng.uniform(0.5, 3.0)
        case "line hangs":
            return rng.uniform(1.0, 4.0)
        case "stop past a lease" | "stop past the lease" | "line hangs past the lease":
            return rng.uniform(*PAST_LEASE_S)
        case _:
            return 0.0


class Chaos:
    """Brings a schedule about. `done` holds what was done, as it was done."""

    def __init__(self, fleet: Fleet, faults: Iterable[Fault], busy: Callable[[str], bool]) -> None:
        """`busy`: whether the worker has a job now."""
        self._fleet = fleet
        self._faults = list(faults)
        self._busy = busy
        self.done: list[Fault] = []
        self.missed: list[Fault] = []

    async def run(self) -> None:
        """From the first to the last, and until each is over."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as group:
            for fault in self._faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - clock()))
                group.create_task(self._bring_about(fault))

    async def _bring_about(self, fault: Fault) -> None:
        try:
            await self._do(fault)
        except (OSError, psutil.Error, psycopg.Error, nats.errors.Error):
            self.missed.append(fault)  # what it was to befall is gone already, by another fault
        else:
            self.done.append(fault)

    async def _do(self, fault: Fault) -> None:
        fleet, seconds = self._fleet, fault.measure
        match fault.kind, fault.target:
            case "kill", ("postgres" | "nats") as name:
                self._server(name).kill()
            case "lose the store", _:
                server = self._server("nats")
                fleet.lose_nats_store()
                server.kill()
            case "damage the stream", _:
                await _damage(fleet.place.nats_url, fault.measure)
            case "oversize report", _:
                await _report_too_much(fleet.place)
            case "cut connections", _:
                await asyncio.to_thread(_cut_connections, fleet.place.dsn)
            case "lose answers", _:
                fleet.postgres.lose_answers(int(seconds))
            case "line away", ("postgres" | "nats") as name:
                await (fleet.postgres if name == "postgres" else fleet.nats).away(seconds)
            case "line hangs", _:
                await fleet.postgres.hang(seconds)
            case "line hangs past the lease", worker:
                await self._until_busy(worker)
                await fleet.worker_lines[worker.removeprefix("worker-")].hang(seconds)
            case (("stop past the lease" | "stop past a lease"), name):
                if name.startswith("worker-"):
                    await self._until_busy(name)
                await self._stop(name, seconds)
            case "clock jumps", _:
                fleet.move_clock(seconds)
            case "kill", name:
                fleet.children[name].send(signal.SIGKILL)
            case _:
                raise AssertionError(fault)

    def _server(self, name: str) -> psutil.Process:
        process = self._fleet.server("nats-server" if name == "nats" else name)
        if process is None:
            raise ProcessLookupError(name)
        return process

    async def _until_busy(self, worker: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_S_MAX):
                while not await asyncio.to_thread(self._busy, worker.removeprefix("worker-")):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def _stop(self, name: str, seconds: float) -> None:
        """It wakes up after a lease, as if nothing had been."""
        child = self._fleet.children[name]
        child.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            child.send(signal.SIGCONT)


async def _damage(nats_url: str, share: float) -> None:
    """LEDGER loses the message at this share of its length, as if NATS' disk could not be read there."""
    client = await nats.connect(nats_url, connect_timeout=3, max_reconnect_attempts=0)
    try:
        jetstream = client.jetstream(timeout=3)
        last = (await jetstream.stream_info(LEDGER_STREAM)).state.last_seq
        await jetstream.delete_msg(LEDGER_STREAM, 1 + int(share * last))
    finally:
        await client.close()


async def _report_too_much(place: Place) -> None:
    """A worker that runs a job says too much of it, again and again; the recorder refuses all of it."""
    async with await psycopg.AsyncConnection.connect(place.dsn, connect_timeout=3) as connection:
        row = await (await connection.execute(RUNNING)).fetchone()
    if row is None:
        raise ProcessLookupError("no job runs")
    job_id, attempt, worker = row
    note = JobPromptEnhanced(attempt=attempt, original="fog", enhanced="x" * 900_000, enhancer="rules 1")
    report = NoteReport(job_id=job_id, attempt=attempt, note=note)
    client = await nats.connect(place.nats_url, connect_timeout=3, max_reconnect_attempts=0)
    try:
        for _ in range(5):
            await client.publish(report_subject(worker), report.model_dump_json().encode())
        await client.flush()
    finally:
        await client.close()


def _cut_connections(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as connection:
        connection.execute(CUT)
