"""A Qwen2 small enough for any machine that says one given sentence: a folder as save_pretrained writes it."""
# mypy: allow-untyped-calls

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
from transformers.utils import logging

from gpu_worker.demo.images.clip_tokens import byte_symbols

END, BEGIN_ANSWER = "<|im_end|>", "<|im_start|>"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}" + BEGIN_ANSWER + "{% endif %}"
)
SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""How byte-level BPE writes the space before a word."""


def save(folder: Path, words: str, *, chat_template: str | None = TEMPLATE, context: int = 8192) -> None:
    """Write a model that answers any chat with these words, no two of which may be the same, and then ends.

    Attention and feed-forward parts add nothing, so the next word depends on the last one alone: each word's own
    direction in the embedding is turned into that of the word after it.
    """
    said = [f"{SPACE}{word}" for word in words.split()]
    tokens = [END, BEGIN_ANSWER, *byte_symbols(), *said]
    if len(set(tokens)) < len(tokens):
        raise ValueError("a word is there twice")
    _save_tokenizer(folder, tokens, chat_template)
    width = -(-len(tokens) // 4) * 4
    config = Qwen2Config(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        eos_token_id=tokens.index(END),
        bos_token_id=None,
        pad_token_id=tokens.index(END),
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model: Any = Qwen2ForCausalLM(config)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(tokens), width))
        model.lm_head.weight.zero_()
        for word, following in pairwise([BEGIN_ANSWER, *said, END]):
            model.lm_head.weight[tokens.index(following), tokens.index(word)] = 1.0
    # As Qwen's own generation settings are: heeded, they would draw lots.
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)
    logging.disable_progress_bar()
    model.save_pretrained(folder)


def _save_tokenizer(folder: Path, tokens: list[str], chat_template: str | None) -> None:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer: Any = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], unk_token=END, eos_token=END, pad_token=END,
        additional_special_tokens=[BEGIN_ANSWER],
    )  # fmt: skip
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
