"""Recognise torch's out-of-memory errors, on a GPU or the CPU, and free memory."""

import gc

import torch

OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Wordings of torch's CPU allocator and CUDA's libraries in a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU's or the machine's memory was too small."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    )


def free_memory() -> None:
    """Free unreferenced memory. An error with frames that hold tensors must be gone before."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
