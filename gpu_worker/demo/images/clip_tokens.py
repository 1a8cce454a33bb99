"""The demo model's vocabulary: every byte, so that any text has tokens, and the words that its prompts are made of."""

from collections.abc import Iterable
from itertools import pairwise

from gpu_worker.demo import world

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

QUALITY_WORDS = """
    an of image photo drawing painting beautiful nice bright detailed sharp high low good bad best worst quality
    resolution blurry ugly deformed distorted noise text watermark style simple flat art digital
""".split()  # noqa: SIM905 - fifty quoted words read worse
"""What people add to any prompt, and to any negative prompt; the demo models learn to pass over them."""
DEMO_WORDS = sorted({*world.words(), *QUALITY_WORDS} - {","})
"""One token each in the demo models; a comma is a byte and so a token by itself."""


def byte_symbols() -> list[str]:
    """Return the visible character that byte-level BPE writes for each byte; printable ones stand for themselves."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


def merges_for(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return merges, in order, after which every word is one token.

    A word is first cut as the merges so far cut it, because those come first when a text is cut; then its pieces are
    merged from the left.
    """
    rank: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = [*word[:-1], word[-1] + WORD_END]
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            pair = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
            rank.setdefault(pair, len(rank))
            at = pairs.index(pair)
            pieces[at : at + 2] = ["".join(pair)]
    return list(rank)


def vocabulary(merges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return token → id in CLIP's order: bytes, bytes that end a word, merges, start, end."""
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(pair) for pair in merges), START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
