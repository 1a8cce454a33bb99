"""A tiny IP-Adapter of random weights, in the layout of the published ones, for the UNet of the demo model."""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

IMAGE_WIDTH = 16
"""Of the image encoder's embedding."""
TOKENS = 4
"""An image becomes four tokens next to those of the prompt."""


def install(model: Path, *names: str, seed: int = 1) -> None:
    """Put weights under these file names, each with its own, and their image encoder, into the model's folder."""
    folder = model / "ip_adapter"
    unet: Any = UNet2DConditionModel.from_pretrained(str(model / "unet"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
                projection_dim=IMAGE_WIDTH,
            )
        )
        with torch.no_grad():
            # The random head of a CLIP gives all pictures nearly one embedding; this one tells them apart.
            encoder.visual_projection.weight.normal_(std=1.0)
        encoder.save_pretrained(folder / "image_encoder")
        for name in names:
            save_file(weights_for(unet), folder / name)


def weights_for(unet: Any) -> dict[str, torch.Tensor]:
    """Projection and, for every cross-attention, keys and values; numbered 1, 3, 5 … over all attentions."""
    text_width = unet.config.cross_attention_dim
    weights = {
        "image_proj.proj.weight": torch.randn(TOKENS * text_width, IMAGE_WIDTH),
        "image_proj.proj.bias": torch.zeros(TOKENS * text_width),
        "image_proj.norm.weight": torch.ones(text_width),
        "image_proj.norm.bias": torch.zeros(text_width),
    }
    crossing = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(crossing):
        width = unet.get_submodule(name).to_k.weight.shape[0]
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{part}.weight"] = torch.randn(width, text_width) / text_width**0.5
    return weights
