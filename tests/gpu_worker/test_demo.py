"""The demo model: small, complete, the same everywhere, and never half there."""

import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from gpu_worker.demo import build_demo_sdxl, is_whole
from gpu_worker.demo.__main__ import main
from gpu_worker.demo.tokens import WORDS
from gpu_worker.engines.model_files import fingerprint
from gpu_worker.engines.sdxl import SdxlEngine


def test_it_is_an_sdxl_of_256_pixels_and_small(demo_folder: Path, engine: SdxlEngine) -> None:
    pipeline = engine._pipeline
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"
    assert pipeline.default_sample_size * pipeline.vae_scale_factor == 256
    assert pipeline.unet.config.addition_embed_type == "text_time"
    assert sum(file.stat().st_size for file in demo_folder.rglob("*") if file.is_file()) <= 21_000_000


def test_building_again_changes_nothing_and_elsewhere_gives_the_same(demo_folder: Path, tmp_path: Path) -> None:
    assert not build_demo_sdxl(demo_folder)
    assert build_demo_sdxl(tmp_path / "new" / "demo")
    assert fingerprint(tmp_path / "new" / "demo") == fingerprint(demo_folder)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["demo"]


@pytest.mark.parametrize("harmed", ["unet/diffusion_pytorch_model.safetensors", "model_index.json"])
def test_a_harmed_demo_model_is_built_again(demo_folder: Path, tmp_path: Path, harmed: str) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(demo_folder, folder)
    file = folder / harmed
    file.write_bytes(file.read_bytes()[:-100])
    assert not is_whole(folder)
    assert build_demo_sdxl(folder)
    assert is_whole(folder)


def test_the_command_prints_one_line(demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(demo_folder)]) == 0
    assert capsys.readouterr().out == f"The demo model is ready in {demo_folder}.\n"
    assert main([str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"The demo model is built in {tmp_path / 'demo'}.\n"
    assert printed.err == ""


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    assert main([str(tmp_path)]) == 1
    assert "holds something that is not a demo model" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["diary.txt"]
    assert main([str(tmp_path / "diary.txt")]) == 1
    assert main([]) == 2


def test_its_words_are_one_token_each_and_every_text_has_tokens(demo_folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(demo_folder / "tokenizer")
    assert [tokenizer.tokenize(word) for word in WORDS] == [[f"{word}</w>"] for word in WORDS]
    text = "zürich 日本 🎈 \x7f"
    assert tokenizer.unk_token_id not in tokenizer(text).input_ids[1:-1]
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer("a red circle", padding="max_length").input_ids[0] == tokenizer.bos_token_id
