"""Training of the image demo model runs, stops, goes on, and writes a model that loads."""

from pathlib import Path

import pytest
import torch

from gpu_worker.demo.images import autoencoder, train
from gpu_worker.demo.images.data import captions, scene_and_picture
from gpu_worker.demo.images.model import PIXELS
from gpu_worker.engines.diffusers.sdxl import SdxlEngine


def trained(folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Train up to `steps` in a folder; return the running mean of the weights."""
    options = ["--autoencoder-steps=2", "--reading-steps=2", "--pictures=16", f"--steps={steps}", "--check-steps=9"]
    assert train.main([f"--folder={folder}", f"--out={folder / 'model'}", *options]) == 0
    mean: dict[str, torch.Tensor] = torch.load(folder / "unet.pt", weights_only=True)["mean"]
    return mean


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "BATCH", 2)
    monkeypatch.setattr(autoencoder, "SCALE_PICTURES", 8)
    monkeypatch.setattr(train, "rate", lambda _step, _steps: 1.0)
    trained(tmp_path / "stopped", 1)
    stopped, whole = trained(tmp_path / "stopped", 2), trained(tmp_path / "whole", 2)
    assert all(torch.equal(stopped[name], value) for name, value in whole.items())
    engine = SdxlEngine.load(str(tmp_path / "whole" / "model"), device="cpu")
    assert engine._pipeline.default_sample_size * engine._pipeline.vae_scale_factor == PIXELS


def test_captions_change_from_step_to_step_and_are_the_same_again() -> None:
    scenes = [scene_and_picture(0, number)[0] for number in range(20)]
    assert captions(scenes, 0, 1) == captions(scenes, 0, 1) != captions(scenes, 0, 2)
