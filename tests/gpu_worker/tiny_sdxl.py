"""A tiny SDXL of random weights, with as many layers in a block as the full one: whatever is put in shows."""
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from gpu_worker.demo.images.clip_tokens import DEMO_WORDS, END, START, merges_for, vocabulary

SEED = 2025
TEXT_WIDTH = 96
"""Of each text encoder; the UNet attends to both side by side."""
POOLED_WIDTH = 96
TIME_WIDTH = 32
"""Of each of the six numbers that tell SDXL the original size, crop and target size."""
TOKENS_MAX = 77


def build_tiny_sdxl(folder: Path) -> None:
    """Write the model in half precision, as full ones are published."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        pipeline: Any = assemble()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


def assemble() -> Any:
    """Return the pipeline with the weights that the current random state gives; `Any`, as in engines.sdxl."""
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def tokenizer() -> CLIPTokenizer:
    # Pairs are what it takes; its annotation says strings.
    merges: Any = merges_for(DEMO_WORDS)
    return CLIPTokenizer(vocab=vocabulary(merges), merges=merges, model_max_length=TOKENS_MAX)


def text_config() -> CLIPTextConfig:
    vocab = vocabulary(merges_for(DEMO_WORDS))
    return CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=POOLED_WIDTH,
        max_position_embeddings=TOKENS_MAX,
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
    )


def unet() -> UNet2DConditionModel:
    """Return a UNet of 5.6 million weights for latents of 32 x 32, which are images of 256 x 256 pixels."""
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        # What this parameter means in SDXL's configurations is the number of heads.
        attention_head_dim=(1, 1, 2),
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_WIDTH + POOLED_WIDTH,
    )


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=256,
        block_out_channels=(16, 32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.13025,
        force_upcast=True,
    )
