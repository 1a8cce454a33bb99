"""The worker processes of `darkroom up`: their number, pools, GPUs and names.

`sdxl,wan` is a worker for both pools, with several GPUs one for each GPU; `sdxl*2` is two workers of a pool, and
`sdxl*2+wan` adds one of another pool. Names stay the same after every restart, so that a hold on a worker continues.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

PROCESSES_MAX: Final = 64

NONE: Final = "none"

GROUP: Final = re.compile(r"(?P<pools>[a-z0-9_,\s-]+?)\s*(\*\s*(?P<processes>\d{1,4}))?", re.ASCII)

NVIDIA_SMI_S_MAX: Final = 10.0
"""Maximum seconds for nvidia-smi, which answers within a second; a broken driver hangs."""

GPU: Final = re.compile(r"^GPU \d+: .*\(UUID: (?P<uuid>GPU-[0-9a-f-]+)\)\s*$", re.MULTILINE)


class WorkersInvalid(ValueError):
    """`--workers` is invalid. The message continues after the value."""


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers that take jobs of the same pools. `processes` None: one, or one for each GPU."""

    pools: tuple[str, ...]
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """A worker process: its name, its pools, and the GPU that it sees; None: all."""

    number: int
    name: str
    pools: str
    gpu: str | None = None

    @property
    def log(self) -> str:
        """The name of its log file in the data folder."""
        return "worker.log" if self.number == 1 else f"worker-{self.number}.log"

    def environment(self) -> Mapping[str, str]:
        """The settings that differ between the workers."""
        told = {"DARKROOM_POOLS": self.pools, "DARKROOM_WORKER_NAME": self.name}
        return told if self.gpu is None else {**told, "CUDA_VISIBLE_DEVICES": self.gpu}


def groups_of(text: str, known: Collection[str]) -> list[WorkerGroup]:
    """The groups in a value of `--workers`; none for `none`. Raises `WorkersInvalid`."""
    if text.strip() == NONE:
        return []
    groups = [_group(part, known) for part in text.split("+")]
    if sum(group.processes or 1 for group in groups) > PROCESSES_MAX:
        raise WorkersInvalid(f"at most {PROCESSES_MAX} workers run on one machine")
    return groups


def planned(groups: Sequence[WorkerGroup], gpus: Sequence[str], name: str | None = None) -> list[LocalWorker]:
    """The processes, assigned to the GPUs in turn. `name`: the user's name for a worker, else the machine's.

    A single process sees every GPU.
    """
    pools = [",".join(group.pools) for group in groups for _ in range(group.processes or (len(gpus) if gpus else 1))]
    machine = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()) or "worker"
    plan: list[LocalWorker] = []
    for number, of_one in enumerate(pools, start=1):
        called = name if name and len(pools) == 1 else f"{name or machine}-{number}"
        gpu = gpus[(number - 1) % len(gpus)] if gpus and len(pools) > 1 else None
        plan.append(LocalWorker(number, called, of_one, gpu))
    return plan


def gpus_here(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them; none without NVIDIA's driver.

    If that variable is set, only its devices; if a setting chooses the workers' device, none.
    """
    if environment.get("DARKROOM_DEVICE"):
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run(  # noqa: S603 - a program of the driver, without any argument of a user
            [program, "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [found["uuid"] for found in GPU.finditer(listed.stdout)]


def _group(text: str, known: Collection[str]) -> WorkerGroup:
    allowed = f"the pools are {', '.join(sorted(known))}, or none for no worker"
    found = GROUP.fullmatch(text.strip())
    if found is None:
        raise WorkersInvalid(f"{allowed}; sdxl*2+wan is two workers of one pool and one of another")
    pools = tuple(dict.fromkeys(pool.strip() for pool in found["pools"].split(",") if pool.strip()))
    if not pools or not set(known).issuperset(pools):
        raise WorkersInvalid(allowed)
    if found["processes"] is None:
        return WorkerGroup(pools)
    processes = int(found["processes"])
    if not 1 <= processes <= PROCESSES_MAX:
        raise WorkersInvalid(f"1 to {PROCESSES_MAX} workers of a kind run on one machine")
    return WorkerGroup(pools, processes)
