"""Peak memory of an attempt. Imports no torch: a worker with only hosted models has none."""

import re
import resource
import sys
from typing import Any

HIGH_WATER_KIB = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
"""The peak resident set of a process in Linux's proc(5)."""

RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of `ru_maxrss`: kibibytes on Linux, bytes on macOS (getrusage(2) of each)."""


def forget_peak_memory() -> None:
    """Reset the measurement as far as possible: the peak of a process cannot be reset."""
    cuda = _cuda_in_use()
    if cuda is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def peak_memory_bytes() -> int:
    """Peak memory allocated by torch on the GPUs since `forget_peak_memory`, weights included.

    Without a GPU in use, the peak resident set of this process since it started.
    """
    cuda = _cuda_in_use()
    if cuda is not None:
        return sum(int(cuda.max_memory_allocated(device)) for device in range(cuda.device_count()))
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:
            return int(HIGH_WATER_KIB.findall(status.read())[0]) * 1024
    except (OSError, IndexError):
        # Also correct, unless this process is smaller than its parent: on Linux it starts with the parent's peak.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES


def _cuda_in_use() -> Any | None:
    """`torch.cuda` if something is on a GPU; never imports torch or occupies a GPU."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # None also while another thread is importing torch
    return cuda if cuda is not None and cuda.is_initialized() else None
