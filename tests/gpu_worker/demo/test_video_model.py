"""The video demo model: its architecture and how it is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_worker.demo.training_run import TrainingRun, rate
from gpu_worker.demo.videos import evaluate, train
from gpu_worker.demo.videos.autoencoder import as_input, start_simple
from gpu_worker.demo.videos.flow import encoded, new_flow, timesteps_after_a_given_frame
from gpu_worker.demo.videos.model import LATENT_CHANNELS, assemble, autoencoder, text_encoder
from gpu_worker.demo.videos.motion import FRAMES, MovingScene, film

SCENE = MovingScene("yellow", "circle", "blue", "left")
SMALL = ["--still-steps=2", "--decoder-steps=2", "--reading-steps=2", "--clips=16", "--threads=1"]


# Autocast keeps weights in full precision and says so once.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained for two steps in each stage, and its checkpoints."""
    folder = tmp_path_factory.mktemp("demo-wan")
    argv = [f"--folder={folder}", f"--weights={folder / 'model'}", "--flow-steps=2", *SMALL]
    assert train.main(argv) == 0
    return folder


@pytest.mark.slow
def test_training_goes_on_where_it_was_stopped(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [f"--folder={trained}", f"--weights={trained / 'longer'}", "--flow-steps=3", *SMALL]
    assert train.main(argv) == 0
    state = TrainingRun(trained).load("flow")
    assert state is not None
    assert state["step"] == 3
    assert "stills step" not in capsys.readouterr().out
    assert (trained / "longer" / "model_index.json").exists()


def test_exporting_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([f"--folder={tmp_path}", "--only=export"]) == 1
    assert "nothing to export" in capsys.readouterr().out


def test_folded_padding_is_the_padding_of_the_pipelines() -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        flow = new_flow(text_encoder())
        texts = ["a red circle moving left to right on black", "", "blurry, static"]
        latents, timestep = torch.randn(3, LATENT_CHANNELS, 5, 12, 12), torch.tensor([900.0, 500.0, 20.0])
        folded = flow.transformer(latents, timestep, encoded(flow, texts), return_dict=False)[0]
        pipeline = assemble(autoencoder(), flow.text, flow.slow_transformer)
        padded, _ = pipeline.encode_prompt(texts, None, False, max_sequence_length=512)
        whole = flow.slow_transformer(latents, timestep, padded, return_dict=False)[0]
    torch.testing.assert_close(folded, whole, rtol=1e-4, atol=1e-5)


def test_a_clip_starts_as_a_repetition_of_its_first_frame() -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        model = autoencoder()
        start_simple(model)
        still = as_input([np.repeat(film(SCENE, np.random.default_rng(1))[:1], FRAMES, axis=0)])
        seen = model.decode(model.encode(still).latent_dist.mode()).sample
    torch.testing.assert_close(seen, seen[:, :, :1].expand_as(seen), rtol=1e-3, atol=1e-3)


def test_the_tokens_of_a_given_first_frame_have_no_noise() -> None:
    each = timesteps_after_a_given_frame(torch.tensor([700.0, 30.0]), 5)
    assert each.shape == (2, 180)
    assert each[:, :36].eq(0).all()
    assert each[0, 36:].eq(700).all()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    rates = [rate(step, 1000) for step in (0, 99, 500, 749, 875, 999)]
    assert rates == pytest.approx([0.01, 1, 1, 1, 0.5, 0.004])


@pytest.mark.slow
def test_evaluation_fails_under_the_thresholds(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [f"--weights={trained / 'model'}", "--prompts=3", "--steps=2", "--threads=1"]
    assert evaluate.main([*argv, f"--clips={trained / 'clips'}"]) == 1
    assert '"prompts": 3' in capsys.readouterr().out
    assert len(list((trained / "clips").glob("*.png"))) == 3


def test_padding_starts_aside() -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        flow = new_flow(text_encoder())
        said = encoded(flow, ["a red circle moving left to right on black"])
        assert flow.padding.weights is not None
        block = flow.slow_transformer.blocks[0].attn2
        text = flow.slow_transformer.condition_embedder.text_embedder(said)
        query = block.norm_q(block.to_q(torch.randn(1, 9, block.inner_dim))).unflatten(2, (block.heads, -1))
        key = block.norm_k(block.to_k(text)).unflatten(2, (block.heads, -1))
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / key.shape[-1] ** 0.5
        attention = (scores + flow.padding.weights).softmax(-1)
    assert float(attention[..., -9:].sum(-1).max()) < 0.05
