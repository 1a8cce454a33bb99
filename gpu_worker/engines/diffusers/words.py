"""Words that a text encoder does not read: each reads a number of tokens and silently ignores the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from domain.recipes.cautions import GUIDANCE_OFF, quoted
from domain.warning_codes import WarningCode
from domain.wording.negative_prompt import is_made_by_rule
from gpu_worker.engines import RenderRequest, Warned


@dataclass(frozen=True, slots=True)
class Reader:
    """A tokenizer, and the tokens that its text encoder reads, including those for begin and end."""

    tokenizer: Any
    tokens_max: int

    def unread(self, text: str) -> str:
        """The part of the text that is not read, from the first incompletely read word on; empty if all is read."""
        if not self.tokenizer.is_fast:
            tokens = self.tokenizer(text, verbose=False)["input_ids"]
            return str(self.tokenizer.decode(tokens[self.tokens_max - 1 :], skip_special_tokens=True)).strip()
        places = self.tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(places) <= self.tokens_max:
            return ""
        end = places[self.tokens_max - 2][1]  # the last token is the end token
        while 0 < end < len(text) and not (text[end - 1].isspace() or text[end].isspace()):
            end -= 1
        return text[end:].strip()


def unread_words(request: RenderRequest, readers: Sequence[Reader], *, reads_negative: bool = True) -> Iterator[Warned]:
    """Warnings about the owner's words that a model does not read; a negative prompt made by rule causes none."""
    tokens_max = min(reader.tokens_max for reader in readers)
    cut = shortest(reader.unread(request.prompt) for reader in readers)
    if cut:
        yield Warned(
            WarningCode.PROMPT_CUT_OFF, f"The model reads {tokens_max} tokens of a prompt and ignores its end: {cut}."
        )
    negative = request.negative_prompt
    if not negative or request.guidance <= GUIDANCE_OFF or is_made_by_rule(negative, request.prompt):
        return
    if not reads_negative:
        yield Warned(WarningCode.NEGATIVE_PROMPT_IGNORED, f"This model reads no negative prompt: {quoted(negative)}.")
        return
    cut = shortest(reader.unread(negative) for reader in readers)
    if cut:
        detail = f"The model reads {tokens_max} tokens of a negative prompt and ignores its end: {cut}."
        yield Warned(WarningCode.NEGATIVE_PROMPT_CUT_OFF, detail)


def shortest(ends: Iterator[str]) -> str:
    """The quoted words that the reader with the shortest limit leaves out; empty if there are none."""
    longest = max(ends, key=len)
    return quoted(longest) if longest else ""
