"""The architecture of the image demo model: every part of SDXL, in small, for pictures of 128 x 128 pixels."""
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from gpu_worker.demo.images.clip_tokens import DEMO_WORDS, END, START, merges_for, vocabulary

PIXELS = 128
LATENT_CHANNELS = 4
LATENT_PIXELS = PIXELS // 8
TEXT_WIDTH = 96
"""Of each text encoder and of the pooled text; the UNet attends to both encoders side by side."""
TEXT_LAYERS = 3
"""SDXL reads the tokens before the last layer; the last one of the second encoder makes the pooled text."""
TIME_WIDTH = 16
"""Of each of the six numbers that tell SDXL the original size, crop and target size."""
TOKENS_MAX = 32
"""Twice the longest caption; further words of a prompt are cut off."""


def tokenizer() -> CLIPTokenizer:
    # Pairs are what it takes; its annotation says strings.
    merges: Any = merges_for(DEMO_WORDS)
    return CLIPTokenizer(vocab=vocabulary(merges), merges=merges, model_max_length=TOKENS_MAX)


def text_config() -> CLIPTextConfig:
    vocab = vocabulary(merges_for(DEMO_WORDS))
    return CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=3,
        projection_dim=TEXT_WIDTH,
        max_position_embeddings=TOKENS_MAX,
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
    )


def text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    return CLIPTextModel(text_config()), CLIPTextModelWithProjection(text_config())


def unet() -> UNet2DConditionModel:
    """Return a UNet of 4.2 million weights that attends to the text at 8 x 8, the lower of its two levels."""
    return UNet2DConditionModel(
        sample_size=LATENT_PIXELS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=1,
        # What this parameter means in SDXL's configurations is the number of heads.
        attention_head_dim=(2, 4),
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=16,
        # As in "Diffusion Models Beat GANs" (Dhariwal and Nichol, 2021): the pooled text shifts and scales each block.
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_WIDTH + TEXT_WIDTH,
    )


def autoencoder() -> AutoencoderKL:
    """Return an autoencoder of 0.9 million weights; one latent stands for 8 x 8 pixels."""
    return AutoencoderKL(
        sample_size=PIXELS,
        block_out_channels=(16, 32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        # Training sets latents_mean and latents_std, which bring each channel to unit variance.
        scaling_factor=1.0,
        force_upcast=True,
    )


def scheduler() -> EulerDiscreteScheduler:
    """Return Euler steps from pure noise on (zero signal at the last time): else no background came out solid."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def signal_and_noise(times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shares of picture and of noise, [batch, 1, 1, 1], at times of 0 to 999, as the scheduler has them."""
    euler: Any = scheduler()
    kept = euler.alphas_cumprod[times].reshape(-1, 1, 1, 1)
    return kept.sqrt(), (1 - kept).sqrt()


def assemble(vae: AutoencoderKL, denoiser: UNet2DConditionModel, encoders: tuple[Any, Any]) -> Any:
    """Return the pipeline of these parts; `Any`, as in engines.diffusers.sdxl."""
    pipeline: Any = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=denoiser,
        scheduler=scheduler(),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> None:
    """Write the model in half precision, as full ones are published. The pipeline's own weights become that too."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    for weights in folder.rglob("*.safetensors"):
        # They are written for their owner alone, but the worker may be another user than the one who set up.
        weights.chmod(0o644)


def encode_text(encoders: tuple[Any, Any], tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the UNet gets of tokens [batch, TOKENS_MAX]: their states and the pooled text."""
    first = encoders[0](tokens, output_hidden_states=True)
    second = encoders[1](tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds
