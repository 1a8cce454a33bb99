"""Configuration of how models run on the device. Imports no torch: settings are read before it."""

from dataclasses import dataclass
from typing import Literal


class TuningRefused(Exception):
    """The device does not support the configuration; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Number format, memory layout and compilation of every local model of a worker.

    Attention needs no setting: diffusers uses torch's scaled_dot_product_attention, which is fused on CUDA.
    """

    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Number format. `auto`: on cuda the architecture's own, fp16 for SDXL and bf16 for Wan; elsewhere fp32."""
    channels_last: bool = False
    compiled: bool = False
    """Whether to use torch.compile on the UNet or transformer; each new image size is compiled once, for minutes."""

    def refuse_impossible(self, device: str) -> None:
        """Raise TuningRefused for a configuration that this device does not support."""
        if self.compiled and not device.startswith("cuda"):
            raise TuningRefused(
                f"DARKROOM_COMPILE: models are compiled on cuda alone, but this worker's device is {device}; "
                "leave it unset, or set DARKROOM_DEVICE."
            )
