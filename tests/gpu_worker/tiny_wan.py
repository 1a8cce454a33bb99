"""A Wan of every part that the full one has, with random weights: what it paints means nothing, how it works does."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

CHANNELS = 4
TEXT_WIDTH = 32
PICTURE_WIDTH = 16


def build_tiny_wan(folder: Path) -> None:
    """Wan 2.2 TI2V: one timestep for each token, so that a first frame can be given."""
    torch.manual_seed(0)
    parts = {"tokenizer": tokenizer(), "text_encoder": text_encoder(), "vae": autoencoder(), "scheduler": scheduler()}
    pipeline = WanPipeline(**parts, transformer=transformer(CHANNELS), expand_timesteps=True)
    pipeline.save_pretrained(folder)


def build_tiny_wan_i2v(folder: Path) -> None:
    """Wan 2.1 I2V: a picture's latents and mask next to the noise, and what CLIP sees in it."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=PICTURE_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder(),
        vae=autoencoder(),
        scheduler=scheduler(),
        image_processor=CLIPImageProcessor(size=32, crop_size=32),
        image_encoder=CLIPVisionModel(vision),
        transformer=transformer(2 * CHANNELS + 4, PICTURE_WIDTH),
    )
    pipeline.save_pretrained(folder)


def transformer(channels: int, picture_width: int | None = None) -> WanTransformer3DModel:
    """Two layers."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        image_dim=picture_width,
    )


def autoencoder() -> AutoencoderKLWan:
    """Eight pixels to a latent, four frames to one."""
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )


def scheduler() -> UniPCMultistepScheduler:
    """As published."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def text_encoder() -> UMT5EncoderModel:
    """Two layers."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer()),
            d_model=TEXT_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """T5's kind, with a token for each printable character."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -10.0) for code in range(ord("!"), ord("~") + 1)]
    unigram = Tokenizer(Unigram(pieces, unk_id=2))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=unigram,
        model_max_length=512,
        padding_side="right",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
