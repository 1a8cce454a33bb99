"""How much memory an attempt took, with and without torch."""

import subprocess
import sys

import pytest
import torch

from gpu_worker.engines.peak_memory import forget_peak_memory, peak_memory_bytes

MIB = 1024**2
GROWS_BY = 300 * MIB


def test_without_a_gpu_it_is_what_the_process_had_resident_and_torch_stays_away() -> None:
    program = (
        "import sys\n"
        "from gpu_worker.engines.peak_memory import forget_peak_memory, peak_memory_bytes\n"
        "forget_peak_memory()\n"
        "before = peak_memory_bytes()\n"
        f"held = b'x' * {GROWS_BY}\n"
        "grown = peak_memory_bytes()\n"
        "del held\n"
        "print(before, grown, peak_memory_bytes(), 'torch' in sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    before, grown, after, torch_loaded = answer.stdout.split()
    assert 5 * MIB < int(before) < GROWS_BY
    assert 0.9 * GROWS_BY < int(grown) - int(before) < 1.5 * GROWS_BY
    assert int(after) > 0.99 * int(grown)  # the kernel counts in strides
    assert torch_loaded == "False"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_what_was_allocated_there_since_the_attempt_began() -> None:
    kept = torch.zeros(10 * MIB, dtype=torch.uint8, device="cuda")
    passing = torch.zeros(100 * MIB, dtype=torch.uint8, device="cuda")
    assert peak_memory_bytes() >= 110 * MIB
    del passing
    forget_peak_memory()
    assert 10 * MIB <= peak_memory_bytes() < 110 * MIB
    del kept
