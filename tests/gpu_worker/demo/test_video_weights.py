"""The video demo model that ships: small, complete, the same twice, and unharmed by any prompt."""

import numpy as np
import pytest
from PIL import Image

from gpu_worker.demo import WAN_DEMO
from gpu_worker.demo.videos.evaluate import load, make
from gpu_worker.demo.videos.motion import FRAMES, PIXELS, MovingScene, film

SHIPPED_BYTES_MAX = 12_000_000
SCENE = MovingScene("yellow", "circle", "blue", "left")


def test_the_shipped_model_is_small_and_both_pipelines_load_it() -> None:
    folder = WAN_DEMO
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= SHIPPED_BYTES_MAX
    assert (folder / "README.md").is_file()
    for given, name in ((False, "WanPipeline"), (True, "WanImageToVideoPipeline")):
        pipeline = load(folder, given_first_frame=given)
        assert type(pipeline).__name__ == name
        assert pipeline.scheduler.config.flow_shift == 5.0
        assert pipeline.config.expand_timesteps


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    pipeline = load(WAN_DEMO)
    first, again, other = (make(pipeline, SCENE, seed, 4, 6.5) for seed in (1, 1, 2))
    assert first.shape == (FRAMES, PIXELS, PIXELS, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_goes_on_from_a_first_frame() -> None:
    pipeline = load(WAN_DEMO, given_first_frame=True)
    given = film(SCENE, np.random.default_rng(3))[0]
    clip = make(pipeline, SCENE, 1, 10, 6.5, given)
    assert np.abs(clip[0].astype(int) - given).mean() < 12


@pytest.mark.parametrize("prompt", ["", "a zebra dances in the 漢字 rain 🙂", "red " * 600])
def test_a_prompt_of_another_world_does_no_harm(prompt: str) -> None:
    pipeline = load(WAN_DEMO)
    clip = pipeline(prompt=prompt, width=PIXELS, height=PIXELS, num_frames=5, num_inference_steps=2, output_type="pil")
    assert isinstance(clip.frames[0][0], Image.Image)
