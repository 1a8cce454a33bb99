"""The video model's tokenizer: T5's kind (unigram), with the world's words and every printable character."""

# mypy: allow-untyped-calls

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
WORD_START = "▁"
WORD_SCORE, CHARACTER_SCORE = -1.0, -10.0
"""Logarithms of how likely a piece is: a word that is there always beats its letters."""
TOKENS_MAX = 512
"""To so many tokens Wan's pipelines pad each prompt."""

QUALITY_WORDS = (
    *("high", "low", "best", "worst", "quality", "detailed", "smooth", "sharp", "blurry", "distorted", "static"),
    *("watermark", "text", "flickering", "deformed", "ugly", "noise", "noisy", "jpeg", "artifacts", "bad", "bright"),
)
"""What people write into any prompt, above all into negative ones; the model learns that they change nothing."""


def build_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer that has a token for each of `words`, and cuts any other text into characters.

    It ignores case; what is neither a word nor printable ASCII becomes the unknown token. Every text ends in `</s>`.
    """
    characters = [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]
    known = [f"{WORD_START}{word}" for word in dict.fromkeys(words)]
    pieces: list[tuple[str, float]] = [(PAD, 0.0), (END, 0.0), (UNKNOWN, 0.0)]
    pieces += [(word, WORD_SCORE) for word in known]
    pieces += [(piece, CHARACTER_SCORE) for piece in (WORD_START, *characters)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # Punctuation is cut off first, or "right," would not be found among the words.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=WORD_START, prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    special: dict[str, Any] = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=TOKENS_MAX, padding_side="right", **special
    )
