"""References and samplers, on the demo model with a tiny IP-Adapter: what pulls, what does not, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from PIL import Image

from domain.recipes.recipe import Kind
from domain.wording.negative_prompt import negative_prompt_for
from gpu_worker.engines import GivenReference, InvalidRequest, ModelUnavailable, RenderRequest, Warned
from gpu_worker.engines.diffusers.fitting import FITS, fitted, squared
from gpu_worker.engines.diffusers.samplers import scheduler_for
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.sdxl_references import denoising_steps, denoising_strength
from tests.gpu_worker.rendering import a_request, pixels, rendered, renderings
from tests.gpu_worker.tiny_ip_adapter import install

STEPS = 10
STRIPES = Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 1, 3)))
RED = Image.new("RGB", (100, 50), (200, 30, 30))


@pytest.fixture(scope="module")
def demo_folder(random_sdxl: Path) -> Path:
    """A model that follows whatever it is given, and has the layers of the full one."""
    return random_sdxl


@pytest.fixture(scope="module")
def adapted_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted") / "model"
    shutil.copytree(demo_folder, folder)
    install(folder, "both.safetensors")
    return folder


@pytest.fixture(scope="module")
def adapted(adapted_folder: Path) -> SdxlEngine:
    return SdxlEngine.load(str(adapted_folder), device="cpu")


def guided(*references: tuple[str, Image.Image, float], **changes: Any) -> RenderRequest:
    given: Any = tuple(GivenReference(kind, image, strength) for kind, image, strength in references)
    return a_request(1, references=given, **changes)


def painted(engine: SdxlEngine, request: RenderRequest) -> np.ndarray:
    return pixels(rendered(engine, request))[0]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance, in steps of 255."""
    return float(np.abs(one - other).mean())


def through_the_vae(engine: SdxlEngine, image: Image.Image) -> np.ndarray:
    """The picture as this model sees it: a VAE of random weights gives back something else than it was given."""
    pipeline = engine._pipeline
    with torch.no_grad():
        latents = pipeline.vae.encode(pipeline.image_processor.preprocess(image)).latent_dist.mode()
        decoded = pipeline.vae.decode(latents).sample
    return np.asarray(pipeline.image_processor.postprocess(decoded)[0]).astype(int)


def test_a_composition_pulls_the_closer_the_stronger(engine: SdxlEngine) -> None:
    with torch.no_grad():  # a trained VAE is sure of its latents; one of random weights adds noise of its own
        engine._pipeline.vae.quant_conv.weight[4:] = 0
        engine._pipeline.vae.quant_conv.bias[4:] = -20
    target = through_the_vae(engine, fitted(STRIPES, 64, 64, "crop"))
    strengths = (0.1, 0.4, 0.7, 1.0)
    distances = [
        apart(painted(engine, guided(("composition", STRIPES, strength), steps=STEPS)), target)
        for strength in strengths
    ]
    assert distances == sorted(distances, reverse=True)
    # The UNet's weights are random as well: noise that is there stays.
    assert distances[-1] < 0.75 * apart(painted(engine, a_request(1, steps=STEPS)), target)


def test_a_composition_is_cropped_to_its_centre_and_gives_the_size_asked_for(engine: SdxlEngine) -> None:
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    assert (np.asarray(fitted(wide, 64, 64, "crop"))[:, 4:-4] == (0, 0, 255)).all()
    image = rendered(engine, guided(("composition", wide, 0.5), width=96, height=64))[0].image
    assert image.size == (96, 64)


@pytest.mark.parametrize("size", [(64, 256), (256, 64), (1, 1), (1, 3000), (3000, 1), (64, 64)])
@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_any_shape_fits_as_asked(size: tuple[int, int], fit: str) -> None:
    """Its first and last rows are red, those between green."""
    picture = Image.new("RGB", size, (0, 200, 0))
    picture.paste((255, 0, 0), (0, 0, size[0], max(1, size[1] // 4)))
    picture.paste((255, 0, 0), (0, size[1] - max(1, size[1] // 4), size[0], size[1]))
    made = fitted(picture, 96, 64, fit)
    assert (made.size, made.mode) == ((96, 64), "RGB")
    if size == (64, 256):
        middle = np.asarray(made)[:, 48].astype(int)
        has_red = (middle[:, 0] > 200).any()
        assert has_red == (fit != "crop"), "a crop loses top and bottom"
        assert (np.asarray(made)[0, 0] == np.asarray(made)[63, 95]).all()


def test_a_picture_for_an_encoder_stays_whole_where_that_is_asked() -> None:
    tall = Image.new("RGB", (10, 40), (255, 0, 0))
    assert squared(tall, "crop") is tall
    assert squared(tall, "pad").size == squared(tall, "stretch").size == (40, 40)


def test_words_after_the_limit_of_either_encoder_are_reported(engine: SdxlEngine) -> None:
    limit = engine._pipeline.tokenizer.model_max_length
    long = "a red circle, " * limit + "a blue star"
    told = [
        one
        for one in renderings(engine, a_request(1, prompt=long, negative_prompt=long, steps=1, guidance=2.0))
        if isinstance(one, Warned)
    ]
    assert [each.code for each in told] == ["prompt_cut_off", "negative_prompt_cut_off"]
    assert all(f"{limit} tokens" in each.detail and "a blue star" in each.detail for each in told)
    by_rule = a_request(1, negative_prompt=negative_prompt_for("a red circle"), prompt="a red circle", steps=1)
    assert not any(isinstance(one, Warned) for one in renderings(engine, by_rule))


@pytest.mark.parametrize(
    ("steps", "strength", "left"), [(10, 1.0, 1), (10, 0.5, 6), (10, 0.1, 10), (2, 1.0, 1), (1, 0.4, 1)]
)
def test_strength_leaves_so_many_steps_to_the_model(engine: SdxlEngine, steps: int, strength: float, left: int) -> None:
    told: list[tuple[int, int]] = []
    request = guided(("composition", RED, strength), steps=steps)
    list(engine.render(request, on_step=lambda *step: told.append(step), canceled=lambda: False))
    assert told[-1] == (left, left)


def test_every_strength_leaves_what_diffusers_makes_of_it() -> None:
    """A strength that floats round to just below a whole step would cost that step."""
    for steps in range(1, 151):
        for tenths in range(1, 11):
            left = denoising_steps(steps, tenths / 10)
            assert 1 <= left == int(steps * denoising_strength(steps, tenths / 10)) <= steps


@pytest.mark.parametrize("kind", ["style", "character"])
def test_style_and_character_change_the_picture_with_their_strength(adapted: SdxlEngine, kind: str) -> None:
    plain = painted(adapted, a_request(1))
    weak, strong = (painted(adapted, guided((kind, RED, strength))) for strength in (0.1, 1.0))
    assert 0 < apart(weak, plain) < apart(strong, plain)
    assert apart(strong, painted(adapted, guided((kind, STRIPES, 1.0)))) > 0.3


def test_a_style_goes_into_the_style_layer_alone_and_a_character_everywhere(adapted: SdxlEngine) -> None:
    painted(adapted, guided(("style", RED, 0.8), ("character", STRIPES, 0.4)))
    scales = {
        name: processor.scale
        for name, processor in adapted._pipeline.unet.attn_processors.items()
        if hasattr(processor, "to_k_ip")
    }
    assert len(scales) > 10
    styled = {name for name, (style, _character) in scales.items() if style == 0.8}
    assert styled
    assert all(name.startswith("up_blocks.0.attentions.1.") for name in styled)
    assert all(scales[name][0] == 0.0 for name in scales.keys() - styled)
    assert all(character == 0.4 for _style, character in scales.values())


def test_several_references_all_count_and_several_images_come_of_them(adapted: SdxlEngine) -> None:
    references = [
        ("composition", STRIPES, 0.5),
        ("style", RED, 1.0),
        ("character", RED, 1.0),
        ("character", STRIPES, 0.7),
    ]
    together = painted(adapted, guided(*references, steps=STEPS))
    for missing in range(len(references)):
        without = [reference for n, reference in enumerate(references) if n != missing]
        assert apart(painted(adapted, guided(*without, steps=STEPS)), together) > 0.1, references[missing][0]
    given: Any = tuple(GivenReference(*reference) for reference in references)
    one, two = pixels(rendered(adapted, a_request(1, 2, references=given)))
    assert apart(one, two) > 1


KINDS = {
    "t2i": [],
    "composition": [("composition", STRIPES, 0.5)],
    "style": [("style", RED, 0.9)],
    "character": [("character", RED, 0.9)],
    "multi": [("composition", STRIPES, 0.5), ("style", RED, 0.9)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_picture_whatever_was_painted_in_between(
    adapted: SdxlEngine, adapted_folder: Path, kind: str
) -> None:
    first = painted(SdxlEngine.load(str(adapted_folder), device="cpu"), guided(*KINDS[kind]))
    for other, references in KINDS.items():
        painted(adapted, guided(*references))
        assert (painted(adapted, guided(*KINDS[kind])) == first).all(), f"after {other}"


def test_an_adapter_in_the_folder_changes_nothing_by_itself(adapted: SdxlEngine, engine: SdxlEngine) -> None:
    painted(adapted, guided(("character", RED, 1.0)))
    assert (painted(adapted, a_request(1)) == painted(engine, a_request(1))).all()
    assert adapted._pipeline.image_encoder is None, "its memory is free again"


def test_style_and_character_may_have_weights_of_their_own(demo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(demo_folder, folder)
    install(folder, "both.safetensors", "character.safetensors")
    own = SdxlEngine.load(str(folder), device="cpu")
    styled, drawn = painted(own, guided(("style", RED, 1.0))), painted(own, guided(("character", RED, 1.0)))
    (folder / "ip_adapter" / "character.safetensors").unlink()
    one = SdxlEngine.load(str(folder), device="cpu")
    assert (painted(one, guided(("style", RED, 1.0))) == styled).all()
    assert apart(painted(one, guided(("character", RED, 1.0))), drawn) > 1


@pytest.mark.parametrize("kind", ["style", "character"])
def test_a_model_without_an_adapter_says_what_belongs_where(engine: SdxlEngine, kind: str) -> None:
    with pytest.raises(
        InvalidRequest, match=f"A {kind} reference needs an IP-Adapter .* into ip_adapter/ .*image_encoder/"
    ):
        rendered(engine, guided((kind, RED, 0.5)))
    assert rendered(engine, a_request(1))


@pytest.mark.parametrize("harmed", ["both.safetensors", "image_encoder/model.safetensors"])
def test_a_broken_adapter_is_one_sentence_and_leaves_the_model_whole(
    adapted_folder: Path, engine: SdxlEngine, tmp_path: Path, harmed: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(adapted_folder, folder)
    file = folder / "ip_adapter" / harmed
    file.write_bytes(file.read_bytes()[:-100])
    broken = SdxlEngine.load(str(folder), device="cpu")
    with pytest.raises(ModelUnavailable, match=r"IP-Adapter both\.safetensors cannot be loaded: "):
        rendered(broken, guided(("style", RED, 0.5)))
    assert (painted(broken, a_request(1)) == painted(engine, a_request(1))).all()


def test_what_cannot_be_is_refused_before_anything_is_painted(engine: SdxlEngine) -> None:
    with pytest.raises(InvalidRequest, match="one composition reference, but the request has 2"):
        rendered(engine, guided(("composition", RED, 0.5), ("composition", STRIPES, 0.5)))
    with pytest.raises(InvalidRequest, match="SDXL makes images"):
        rendered(engine, a_request(1, kind=Kind.VIDEO))
    with pytest.raises(InvalidRequest, match=r"has to be euler or dpm\+\+ with this model, but is unipc"):
        rendered(engine, a_request(1, params={"sampler": "unipc"}))
    with pytest.raises(InvalidRequest, match=r"needs the sampler dpm\+\+"):
        rendered(engine, a_request(1, params={"sampler": "euler", "karras": True}))


def test_samplers_are_for_one_request(engine: SdxlEngine) -> None:
    named: list[dict[str, Any]] = [{}, {"sampler": "euler"}, {"sampler": "dpm++"}, {"sampler": "dpm++", "karras": True}]
    none, euler, dpm, karras = (painted(engine, a_request(1, params=params, steps=STEPS)) for params in named)
    assert (none == euler).all(), "Euler is what the model comes with"
    assert apart(euler, dpm) > 0.5
    assert apart(dpm, karras) > 0.5
    assert type(engine._pipeline.scheduler) is EulerDiscreteScheduler
    assert (painted(engine, a_request(1, steps=STEPS)) == none).all()


@pytest.mark.parametrize("reference", [(), (("composition", STRIPES, 0.5),)])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_sampler_takes_any_number_of_steps(engine: SdxlEngine, steps: int, reference: Any) -> None:
    for karras in (False, True):
        request = guided(*reference, steps=steps, params={"sampler": "dpm++", "karras": karras})
        assert painted(engine, request).std() > 1


def test_a_sampler_keeps_what_the_model_says_of_its_noise() -> None:
    own = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        use_exponential_sigmas=True,
    )
    karras = scheduler_for(own, {"sampler": "dpm++", "karras": True})
    assert type(karras) is DPMSolverMultistepScheduler
    assert karras.config.use_karras_sigmas
    plain = scheduler_for(own, {"sampler": "dpm++"})
    assert not plain.config.use_karras_sigmas
    for scheduler in (karras, plain):
        assert scheduler.config.prediction_type == "v_prediction"
        assert scheduler.config.rescale_betas_zero_snr
        assert scheduler.config.timestep_spacing == "trailing"


def test_a_model_with_another_sampler_keeps_it_until_one_is_named() -> None:
    own = HeunDiscreteScheduler(prediction_type="v_prediction")
    assert scheduler_for(own, {}) is own
    euler = scheduler_for(own, {"sampler": "euler"})
    assert type(euler) is EulerDiscreteScheduler
    assert euler.config.prediction_type == "v_prediction"
