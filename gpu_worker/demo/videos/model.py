"""A small Wan: every part of the full one from diffusers' own classes, in 5 million weights.

It is of the kind "TI2V" (Wan 2.2): one transformer that makes a clip from words alone, and goes on from a given first
frame, whose latent then is kept clean and has the timestep 0 (`expand_timesteps`). So WanPipeline and
WanImageToVideoPipeline load the same folder.
"""
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from gpu_worker.demo.videos.motion import FRAMES, PIXELS, moving_words
from gpu_worker.demo.videos.t5_tokens import QUALITY_WORDS, build_tokenizer

FLOW_SHIFT = 5.0
TEXT_WIDTH = 128
LATENT_CHANNELS = 12
LATENT_SCALE = 8
"""Pixels to a latent, in height and in width; half of it by putting 2 x 2 pixels into channels, which costs nothing."""
LATENT_FRAMES = (FRAMES - 1) // 4 + 1
LATENT_PIXELS = PIXELS // LATENT_SCALE
PATCH = (1, 2, 2)
"""Latents to a token in time, height and width; what `expand_timesteps` of the pipelines takes for granted."""
SIZE_PAIRS, SIZE_SLOPE, SIZE_LOUDNESS = 8, 3.0, 5.0
"""Of `set_padding_aside`: how many pairs of units measure a token, how steep they are, how loud their channel is."""


def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer((*moving_words(), *QUALITY_WORDS, ",", "."))


def text_encoder() -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer()),
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def transformer() -> WanTransformer3DModel:
    """Return 3.5 million weights that see a clip as 5 x 6 x 6 tokens."""
    return WanTransformer3DModel(
        patch_size=PATCH,
        num_attention_heads=4,
        attention_head_dim=48,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=128,
        ffn_dim=576,
        num_layers=6,
        rope_max_seq_len=64,
    )


def autoencoder(mean: list[float] | None = None, std: list[float] | None = None) -> AutoencoderKLWan:
    """Return an autoencoder; `mean` and `std` are those of each latent channel over the data set."""
    return AutoencoderKLWan(
        base_dim=16,
        decoder_base_dim=24,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=mean or [0.0] * LATENT_CHANNELS,
        latents_std=std or [1.0] * LATENT_CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=LATENT_SCALE,
    )


def scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT)


def assemble(vae: AutoencoderKLWan, text: UMT5EncoderModel, flow: WanTransformer3DModel) -> Any:
    """Return the pipeline; `Any`, because diffusers shows type checkers a placeholder."""
    return WanPipeline(
        tokenizer=tokenizer(),
        text_encoder=text,
        vae=vae,
        scheduler=scheduler(),
        transformer=flow,
        expand_timesteps=True,
    )


def save(pipeline: Any, folder: Path) -> None:
    """Write the model in half precision, as full ones are published."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    for weights in folder.rglob("*.safetensors"):
        # They are written for their owner alone, but the worker may be another user than the one who set up.
        weights.chmod(0o644)


@torch.no_grad()
def set_padding_aside(flow: Any) -> None:
    """Change first weights so that cross-attention starts with next to nothing on the padding.

    Wan's pipelines pad prompts to 512 tokens and mask none of them. Twelve words would start with 2 % of the attention,
    and after a thousand steps still have 10 %. Padding is known by being zero: pairs of units add up to the size of a
    token. One channel of keys carries that, and one channel of queries asks for it, in each head.
    """
    text = flow.condition_embedder.text_embedder
    rows = torch.nn.functional.normalize(torch.randn(SIZE_PAIRS, text.linear_1.in_features), dim=1)
    text.linear_1.weight[: 2 * SIZE_PAIRS] = SIZE_SLOPE * torch.cat([rows, -rows])
    text.linear_1.bias[: 2 * SIZE_PAIRS] = 0
    text.linear_2.weight[0] = 0
    text.linear_2.weight[0, : 2 * SIZE_PAIRS] = 1 / SIZE_PAIRS
    text.linear_2.bias[0] = -SIZE_SLOPE * 0.4
    for block in flow.blocks:
        attention = block.attn2
        width = attention.inner_dim // attention.heads
        for channel in range(0, attention.inner_dim, width):
            attention.to_q.weight[channel], attention.to_q.bias[channel] = 0, 1
            attention.to_k.weight[channel], attention.to_k.bias[channel] = 0, 0
            attention.to_k.weight[channel, 0] = 1
            attention.norm_q.weight[channel] = attention.norm_k.weight[channel] = SIZE_LOUDNESS
