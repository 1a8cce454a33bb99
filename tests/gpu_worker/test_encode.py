"""PNG files say where they come from, and a broken one is noticed."""

import io

import pytest
from PIL import Image

from gpu_worker.encode import BrokenFile, encode_png, read_png

IMAGE = Image.effect_noise((48, 32), 80).convert("RGB")


def test_the_origin_comes_back_in_any_script() -> None:
    prompt = "日本の猫 🎈 naïve «café»\n" + "x" * 10_000
    content = encode_png(IMAGE, {"job_id": "5f0c", "index": 2, "seed": 2**63 - 1, "model": "sdxl", "prompt": prompt})
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.text == {  # type: ignore[attr-defined]
            "Software": "Darkroom",
            "job_id": "5f0c",
            "index": "2",
            "seed": str(2**63 - 1),
            "model": "sdxl",
            "prompt": prompt,
        }
        assert image.tobytes() == IMAGE.tobytes()


def test_a_whole_png_has_its_size() -> None:
    assert read_png(encode_png(IMAGE, {})).size == (48, 32)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: b"GIF89a" + content,
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:],
    ],
    ids=["empty", "no PNG", "half", "no pixels", "a flipped byte"],
)
def test_what_does_not_decode_is_a_broken_png(harm) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BrokenFile, match="no whole PNG"):
        read_png(harm(encode_png(IMAGE, {})))


def test_a_jpeg_is_no_png() -> None:
    file = io.BytesIO()
    IMAGE.save(file, "JPEG")
    with pytest.raises(BrokenFile):
        read_png(file.getvalue())
