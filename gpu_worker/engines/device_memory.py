"""When torch runs out of memory, on a GPU or on the machine, and how to give back what it holds."""

import gc

import torch

OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""How torch's CPU allocator and CUDA's libraries put it in a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the GPU's or the machine's memory was too small."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    )


def free_memory() -> None:
    """Give back what no one holds any more; the error whose frames still hold tensors has to be gone before."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
