"""A language model that enhances prompts: Qwen2.5-7B-Instruct, or another one with a chat template, by transformers.

It is on the GPU only during an answer and otherwise in the machine's memory: rendering needs that room. The parts of
transformers are `Any` here: their types depend on the model.
"""
# mypy: allow-untyped-calls

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging

from domain.recipes.recipe import Kind
from domain.wording.enhancement import CHARACTERS_MAX
from gpu_worker.engines import ModelUnavailable, OutOfMemory, RenderCanceled
from gpu_worker.engines.device_memory import free_memory
from gpu_worker.engines.identity import fingerprint
from gpu_worker.engines.language.answers import NoAnswer, cleaned
from gpu_worker.engines.model_source import is_hub_id, snapshot_of
from services.observability.redaction import one_line

HUB_FILES: Final = ["*.json", "*.safetensors", "merges.txt", "tokenizer.model", "chat_template.jinja"]

NEW_TOKENS_MAX: Final = 384
"""Maximum number of tokens of an answer: about 280 words, enough for a prompt."""

ANSWER_S_MAX: Final = 120.0
"""Seconds after which an answer is cut off: on a CPU, 7 billion weights are slow."""

GREEDY: Final = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
"""Replaces the model's own settings, which would give another answer in each attempt."""

OUT_OF_MEMORY: Final = (torch.OutOfMemoryError, MemoryError)

INSTRUCTION: Final = """\
You rewrite prompts for a model that makes {what}. You get one prompt and answer with one richer prompt of the same.
Keep everything that the prompt names: every subject, number, action, place, style, name and text in quotes.
Add only what it leaves open: {aspects}. Never change or contradict what it asks for, and add no new subject.
Write in the language of the prompt, in one paragraph of at most 120 words.
Answer with the new prompt alone: no quotes around it, no heading, no list, no remark."""
ASPECTS: Final = {
    Kind.IMAGE: "composition, light, colours, materials and details of the surroundings",
    Kind.VIDEO: "how things move, what the camera does, light, colours and details of the surroundings",
}


class QwenEnhancer:
    """A loaded language model. Used by one thread at a time."""

    def __init__(self, model: Any, tokenizer: Any, name: str, device: str) -> None:
        self.name = name
        """Name of the model with its revision."""
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._device = device
        if not device.startswith("cuda"):
            model.to(device)

    @classmethod
    def load(cls, source: str, *, device: str | None = None) -> Self:
        """Load a folder that save_pretrained wrote, or a hub id. A folder never accesses the network.

        Without a device: `cuda` if available, else `cpu`. Raises ModelUnavailable, or OutOfMemory.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder, name = folder_of(source)
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype="auto", local_files_only=True, use_safetensors=True
            )
            loaded = cls(model, tokenizer, name, device)
        except OUT_OF_MEMORY:
            raise OutOfMemory(f"The language model {source} does not fit into memory.") from None
        # The libraries pass on the exceptions of a broken part: OSError, ValueError, KeyError, SafetensorError, others.
        except Exception as error:
            raise ModelUnavailable(f"The language model {source} cannot be loaded: {one_line(error)}") from None
        if not tokenizer.chat_template:
            raise ModelUnavailable(f"The language model {source} has no chat template; give an instruct model.")
        return loaded

    def enhance(self, prompt: str, kind: Kind, canceled: Callable[[], bool]) -> str:
        """The enhanced prompt; deterministic, because the model always gives the likeliest answer.

        Raises NoAnswer for an unusable answer, OutOfMemory, and RenderCanceled once `canceled()` returned true.
        """
        asked = self._tokenizer.apply_chat_template(
            messages_for(prompt, kind), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        tokens = asked["input_ids"].shape[1]
        if tokens + NEW_TOKENS_MAX > self._model.config.max_position_embeddings:
            raise NoAnswer(f"the prompt has {tokens} tokens, too many for this model")
        try:
            with self._on_device():
                answer = self._generate(asked, canceled)
        except OUT_OF_MEMORY:
            raise OutOfMemory(
                f"The language model {self.name} does not fit into the memory of {self._device}."
            ) from None
        said = answer[0, tokens:]
        ended = len(said) > 0 and int(said[-1]) in self._endings()
        return cleaned(self._tokenizer.decode(said, skip_special_tokens=True), prompt, cut_off=not ended)

    def _generate(self, asked: Any, canceled: Callable[[], bool]) -> Any:
        with torch.inference_mode():
            answer = self._model.generate(
                **asked.to(self._model.device),
                **GREEDY,
                max_new_tokens=NEW_TOKENS_MAX,
                max_time=ANSWER_S_MAX,
                stopping_criteria=StoppingCriteriaList([StopWhen(canceled)]),
            )
        if canceled():
            raise RenderCanceled("The job was canceled while its prompt was made richer.")
        return answer.cpu()

    def _endings(self) -> set[int]:
        ending = self._model.generation_config.eos_token_id
        return set(ending) if isinstance(ending, list) else {ending}

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Move the weights to the GPU and back, also when they do not fit."""
        if not self._device.startswith("cuda"):
            yield
            return
        try:
            self._model.to(self._device)
            yield
        finally:
            self._model.to("cpu")
            free_memory()


class StopWhen(StoppingCriteria):
    """Ends an answer between two tokens."""

    def __init__(self, canceled: Callable[[], bool]) -> None:
        self._canceled = canceled

    def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
        """See transformers."""
        return torch.full((input_ids.shape[0],), self._canceled(), device=input_ids.device, dtype=torch.bool)


def messages_for(prompt: str, kind: Kind) -> list[dict[str, str]]:
    """The instructions to the model, and the prompt."""
    what = "pictures" if kind is Kind.IMAGE else "short videos"
    return [
        {"role": "system", "content": INSTRUCTION.format(what=what, aspects=ASPECTS[kind])},
        {"role": "user", "content": prompt[:CHARACTERS_MAX]},
    ]


def folder_of(source: str) -> tuple[Path, str]:
    """The model's folder on this machine, downloaded from the hub if needed, and its name with its revision."""
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelUnavailable(f"The folder {path} is not a language model: it has no config.json.")
        return path, f"{path.resolve().name} {fingerprint(path)[:12]}"
    if not is_hub_id(source):
        raise ModelUnavailable(f"There is no language model at {path}; give the path of its folder, or a hub id.")
    snapshot = snapshot_of(source, lambda: snapshot_download(source, allow_patterns=HUB_FILES))
    return snapshot, f"{source.rpartition('/')[2]} {snapshot.name[:12]}"
