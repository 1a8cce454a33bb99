"""The language model: loaded from a folder, greedy, canceled between words; and the rules where it fails."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from gpu_worker.engines import ModelUnavailable, OutOfMemory, RenderCanceled
from gpu_worker.engines.language.answers import NoAnswer
from gpu_worker.engines.language.chat_model import QwenEnhancer, messages_for
from gpu_worker.enhancement.enhancing import FAILURE_KEPT_S, Enhancing
from tests.gpu_worker import tiny_qwen

PROMPT = "a lighthouse in fog"
RICHER = "a lighthouse in thick fog, seen from below at dawn"


def never() -> bool:
    return False


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says `RICHER` with what models say around it. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "Tiny-Instruct"
    tiny_qwen.save(folder, f'Prompt: "{RICHER}"')
    return folder


def answering(folder: Path, words: str, **settings: object) -> str:
    """The folder of a model that says these words."""
    tiny_qwen.save(folder, words, **settings)  # type: ignore[arg-type]
    return str(folder)


def test_it_says_what_is_likeliest_whatever_its_own_settings_are(qwen_folder: Path) -> None:
    model = QwenEnhancer.load(str(qwen_folder), device="cpu")
    with torch.random.fork_rng(devices=[]):
        answers = set()
        for seed in range(3):
            torch.manual_seed(seed)
            answers.add(model.enhance(PROMPT, Kind.IMAGE, never))
    assert answers == {RICHER}


def test_its_name_changes_with_its_weights(qwen_folder: Path, tmp_path: Path) -> None:
    name, revision = QwenEnhancer.load(str(qwen_folder), device="cpu").name.split()
    assert (name, len(revision)) == ("Tiny-Instruct", 12)
    other = answering(tmp_path / "Tiny-Instruct", "something else")
    assert QwenEnhancer.load(other, device="cpu").name.split() != [name, revision]


def test_the_model_gets_its_instructions_and_the_unchanged_prompt() -> None:
    (told, asked), (told_for_videos, _) = messages_for(PROMPT, Kind.IMAGE), messages_for(PROMPT, Kind.VIDEO)
    assert asked == {"role": "user", "content": PROMPT}
    assert "pictures" in told["content"]
    assert "what the camera does" in told_for_videos["content"]
    assert "{" not in told["content"]


def test_it_stops_between_two_words(qwen_folder: Path) -> None:
    asked = 0

    def canceled() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 3

    with pytest.raises(RenderCanceled):
        QwenEnhancer.load(str(qwen_folder), device="cpu").enhance(PROMPT, Kind.IMAGE, canceled)
    assert asked == 4


def test_a_prompt_that_is_too_long_for_it_is_refused(tmp_path: Path) -> None:
    source = answering(tmp_path / "short", RICHER, context=512)
    with pytest.raises(NoAnswer, match="too many for this model"):
        QwenEnhancer.load(source, device="cpu").enhance(PROMPT, Kind.IMAGE, never)


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (without_template, "has no chat template; give an instruct model"),
        (without_weights, "cannot be loaded: "),
        (cut_off, "cannot be loaded: "),
        (without_config, "is not a language model: it has no config.json"),
        (gone, "There is no language model at "),
    ],
)
def test_a_broken_model_is_one_sentence(
    qwen_folder: Path, tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    folder = shutil.copytree(qwen_folder, tmp_path / "model")
    harm(folder)
    with pytest.raises(ModelUnavailable, match=words) as caught:
        QwenEnhancer.load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_the_model_answers_where_there_is_one_and_the_rules_where_not(qwen_folder: Path) -> None:
    by_model = Enhancing(str(qwen_folder), "cpu").enhance(PROMPT, Kind.IMAGE)
    assert (by_model.text, by_model.enhancer.split()[0]) == (RICHER, "Tiny-Instruct")
    by_rules = Enhancing().enhance(PROMPT, Kind.VIDEO)
    assert (by_rules.text, by_rules.enhancer) == (enhance(PROMPT, Kind.VIDEO), RULES)


@pytest.mark.parametrize(
    ("words", "why"),
    [("...", "its answer is empty"), ("I'm sorry, no.", "it refused"), ("fog", "its answer is shorter")],
)
def test_the_rules_step_in_and_say_why(tmp_path: Path, words: str, why: str) -> None:
    made = Enhancing(answering(tmp_path / "Tiny", words), "cpu").enhance(PROMPT, Kind.IMAGE)
    assert made.text == enhance(PROMPT, Kind.IMAGE)
    assert made.enhancer.startswith(f"{RULES} (Tiny failed: {why}")


def test_a_model_that_cannot_be_loaded_is_tried_again_later(qwen_folder: Path, tmp_path: Path) -> None:
    now_s = 1000.0
    enhancing = Enhancing(str(tmp_path / "Tiny"), "cpu", clock=lambda: now_s)
    failed = enhancing.enhance(PROMPT, Kind.IMAGE)
    assert failed.text == enhance(PROMPT, Kind.IMAGE)
    assert failed.enhancer.startswith(f"{RULES} (Tiny failed: There is no language model at")
    shutil.copytree(qwen_folder, tmp_path / "Tiny")
    assert enhancing.enhance(PROMPT, Kind.IMAGE) == failed
    now_s += FAILURE_KEPT_S
    assert enhancing.enhance(PROMPT, Kind.IMAGE).text == RICHER


def test_image_models_leave_when_it_does_not_fit(qwen_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says, room = QwenEnhancer.enhance, [False]

    def full_at_first(model: QwenEnhancer, prompt: str, kind: Kind, canceled: Callable[[], bool]) -> str:
        if not room[0]:
            raise OutOfMemory("It does not fit.")
        return says(model, prompt, kind, canceled)

    monkeypatch.setattr(QwenEnhancer, "enhance", full_at_first)
    never_fits = Enhancing(str(qwen_folder), "cpu")
    assert never_fits.enhance(PROMPT, Kind.IMAGE).enhancer == f"{RULES} (Tiny-Instruct failed: It does not fit.)"
    fits_then = Enhancing(str(qwen_folder), "cpu", lambda: room.__setitem__(0, True))
    assert fits_then.enhance(PROMPT, Kind.IMAGE).text == RICHER


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_takes_the_memory_only_while_it_answers(qwen_folder: Path) -> None:
    model = QwenEnhancer.load(str(qwen_folder), device="cuda")
    before = torch.cuda.memory_allocated()
    assert model.enhance(PROMPT, Kind.IMAGE, never) == RICHER
    assert torch.cuda.memory_allocated() <= before + 16 * 1024**2  # cuBLAS keeps its workspace
