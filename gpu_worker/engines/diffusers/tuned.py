"""A pipeline's number format, memory layout and size.

Pipelines are `Any`: diffusers shows type checkers a placeholder.
"""

from typing import Any

import torch

from gpu_worker.tuning import Tuning

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def dtype_on(device: str, tuning: Tuning, on_cuda: torch.dtype) -> torch.dtype:
    """The number format of the weights; `on_cuda` is the architecture's default on a GPU."""
    if tuning.dtype != "auto":
        return DTYPES[tuning.dtype]
    return on_cuda if device.startswith("cuda") else torch.float32


def tune(pipeline: Any, tuning: Tuning) -> None:
    """Set the memory layout of the convolutions and compile the part that runs once per step, as configured."""
    networks = [pipeline.components.get(name) for name in ("unet", "transformer", "transformer_2")]
    if tuning.channels_last:
        for network in filter(None, (*networks, pipeline.vae)):
            channels_come_last(network)
    if tuning.compiled:
        for network in filter(None, networks):
            network.compile()


def channels_come_last(network: torch.nn.Module) -> None:
    """Store the weights of the convolutions in channels-last order; activations follow.

    The last bits of pixels may differ.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weights in network.parameters():
        if weights.dim() in formats:
            weights.data = weights.data.contiguous(memory_format=formats[weights.dim()])


def weights_bytes(pipeline: Any) -> int:
    """Bytes of all parameters and buffers of a pipeline's parts; shared ones count once."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {id(tensor): tensor for part in parts for tensor in (*part.parameters(), *part.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())
