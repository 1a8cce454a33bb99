"""How much memory an attempt took, for the figures. Imports no torch: a worker with hosted models alone has none."""

import re
import resource
import sys
from typing import Any

HIGH_WATER_KIB = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
"""The largest resident set of a process in Linux's proc(5)."""

RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""In what `ru_maxrss` counts: kibibytes on Linux, bytes on macOS (getrusage(2) of each)."""


def forget_peak_memory() -> None:
    """Begin to measure anew, as far as that is possible: the peak of a process cannot be forgotten."""
    cuda = _cuda_in_use()
    if cuda is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def peak_memory_bytes() -> int:
    """The most that torch had allocated on the GPUs since `forget_peak_memory`, weights included.

    Where no GPU is in use, the largest resident set of this process since it began.
    """
    cuda = _cuda_in_use()
    if cuda is not None:
        return sum(int(cuda.max_memory_allocated(device)) for device in range(cuda.device_count()))
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:
            return int(HIGH_WATER_KIB.findall(status.read())[0]) * 1024
    except (OSError, IndexError):
        # Right as well, unless this process is smaller than its parent: on Linux it begins with the parent's peak.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES


def _cuda_in_use() -> Any | None:
    """`torch.cuda` once something is on a GPU; asking is not a reason to load torch or to occupy a GPU."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # None also while another thread is importing torch
    return cuda if cuda is not None and cuda.is_initialized() else None
