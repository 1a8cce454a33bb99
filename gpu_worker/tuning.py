"""How models run on the device, by configuration. No torch here: the settings come before it."""

from dataclasses import dataclass
from typing import Literal


class TuningRefused(Exception):
    """The device cannot do what was configured; the sentence says what to change."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Numbers, memory layout and compilation of every local model of a worker.

    Attention needs no choice: diffusers takes torch's scaled_dot_product_attention, which is fused on CUDA.
    """

    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """`auto`: on cuda what the architecture was made for, fp16 for SDXL and bf16 for Wan; elsewhere fp32."""
    channels_last: bool = False
    compiled: bool = False
    """torch.compile of the UNet or transformer; each new size of a picture is compiled once, for minutes."""

    def refuse_impossible(self, device: str) -> None:
        """Raise TuningRefused for what this device cannot do."""
        if self.compiled and not device.startswith("cuda"):
            raise TuningRefused(
                f"DARKROOM_COMPILE: models are compiled on cuda alone, but this worker's device is {device}; "
                "leave it unset, or set DARKROOM_DEVICE."
            )
