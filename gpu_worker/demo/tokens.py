"""The demo model's vocabulary: every byte, so that any text has tokens, and the words that its prompts are made of."""

from collections.abc import Iterable
from itertools import pairwise

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

WORDS = """
    a an the of on in at and with above below left right beside under over between one two three four five six
    red green blue yellow orange purple pink brown black white gray grey cyan gold silver
    small large big tiny huge bright dark soft sharp old new round tall wide light warm cold
    circle square triangle star cross ring heart moon sun sky sea river lake mountain hill forest tree flower garden
    cat dog bird fish horse fox house city street road bridge boat car train man woman child face hand eye
    background picture photo painting drawing portrait landscape night day morning evening winter summer rain snow
    style color detailed quality blurry low high watermark text
""".split()  # noqa: SIM905 - a hundred quoted words read worse


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
