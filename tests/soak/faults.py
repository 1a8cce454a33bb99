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

from services.messaging.wire import LEDGER_STREAM
from tests.soak.fleet import LEASE_S, SERVICES, WORKERS, WRONG, Fleet
from tests.soak.oversize import report_too_much
from tests.soak.restoring import Restoring

GAP_S: Final = 2.6
"""Mean pause between the beginnings of two faults: several are at work at once."""

BUSY_S_MAX: Final = 4.0
"""A worker is stopped in mid-job; so long it is waited for that it has one."""

PAST_LEASE_S: Final = (LEASE_S + 1.5, LEASE_S + 4.0)

CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()
"""

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
"""What may come at any time, and what it befalls."""

BACK_UP: Final = ("back up", "postgres")
RESTORE: Final = ("restore an older backup", "postgres")
"""While this one is at work no other begins."""

EVERY_KIND: Final = (*KINDS, BACK_UP, RESTORE)


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
    """The faults of a seed. Each kind comes once in the order that the seed shuffles, and then again.

    The backup is taken in the first third of each round, and put back around the middle.
    """
    rng = random.Random(f"faults of {seed}")
    gap_s = min(GAP_S, seconds / len(EVERY_KIND))
    faults: list[Fault] = []
    while True:
        kinds = rng.sample(KINDS, len(KINDS))
        kinds.insert(rng.randrange(len(KINDS) // 2, 2 * len(KINDS) // 3), RESTORE)
        kinds.insert(rng.randrange(len(KINDS) // 3), BACK_UP)
        for kind, target in kinds:
            at_s = (len(faults) + rng.uniform(0.1, 0.9)) * gap_s
            if at_s >= seconds:
                return faults
            faults.append(Fault(round(at_s, 2), kind, target, round(_measure(kind, rng), 2)))


def _measure(kind: str, rng: random.Random) -> float:
    match kind:
        case "clock jumps":
            return rng.choice((-1, 1)) * rng.uniform(60, 86_400)
        case "damage the stream" | "restore an older backup":
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
        self.restoring = Restoring(fleet)
        self.done: list[Fault] = []
        self.missed: list[Fault] = []

    async def run(self) -> None:
        """From the first to the last, and until each is over. The schedule stands still while a backup is put back."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as group:
            for fault in self._faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - clock()))
                if (fault.kind, fault.target) == RESTORE:
                    since = clock()
                    await self._bring_about(fault)
                    began += clock() - since
                else:
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
                await report_too_much(fleet.place)
            case "back up", _:
                await self.restoring.back_up()
            case "restore an older backup", _:
                await self.restoring.restore(fault.measure)
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


def _cut_connections(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as connection:
        connection.execute(CUT)
