"""A model's revision covers all of its content, and a large file is hashed once."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_worker.engines import identity
from gpu_worker.engines.identity import KEPT_BYTES_MIN, KnownHashes, fingerprint, loaded_and_identified

LARGE = 5 * KEPT_BYTES_MIN


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files that a model has."""
    folder = tmp_path / "model"
    for name, content in {
        "model_index.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": bytes(LARGE),
        "vae/diffusion_pytorch_model.safetensors": b"small",
        "tokenizer/merges.txt": b"a b",
        "tokenizer_2/spiece.model": b"pieces",
        "README.md": b"about it",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        settle(folder / name)
    return folder


def settle(file: Path) -> None:
    """As if it had been written a minute ago."""
    then = time.time() - 60
    os.utime(file, (then, then))


def put_byte(file: Path, place: int, times: tuple[int, int] | None = None) -> None:
    """Change one byte in place."""
    with file.open("r+b") as content:
        content.seek(place)
        content.write(b"x")
    if times is not None:
        os.utime(file, ns=times)


@pytest.mark.parametrize("place", [0, 1, KEPT_BYTES_MIN, LARGE // 2, LARGE - KEPT_BYTES_MIN - 1, LARGE - 1])
def test_one_byte_anywhere_is_another_revision(model: Path, place: int) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    before = fingerprint(model, KnownHashes()), fingerprint(weights, KnownHashes())
    put_byte(weights, place)
    after = fingerprint(model, KnownHashes()), fingerprint(weights, KnownHashes())
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model / "model_index.json").write_bytes(b"[]"),
        lambda model: (model / "tokenizer" / "merges.txt").write_bytes(b"a c"),
        lambda model: (model / "tokenizer_2" / "spiece.model").write_bytes(b"piecez"),
        lambda model: (model / "vae").rename(model / "vae_2"),
        lambda model: (model / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        lambda model: (model / "vae" / "other.safetensors").write_bytes(b""),
        lambda model: (model / "chat_template.jinja").write_bytes(b"{{ 1 }}"),
    ],
)
def test_whatever_is_loaded_counts(model: Path, change: Callable[[Path], object]) -> None:
    before = fingerprint(model, KnownHashes())
    change(model)
    assert fingerprint(model, KnownHashes()) != before


def test_a_copy_elsewhere_is_the_same_model_and_what_is_not_loaded_does_not_count(model: Path, tmp_path: Path) -> None:
    before = fingerprint(model, KnownHashes())
    shutil.copytree(model, tmp_path / "copy")
    (model / "README.md").write_text("about something else")
    assert fingerprint(model, KnownHashes()) == fingerprint(tmp_path / "copy", KnownHashes()) == before
    assert len(before) == 64


class Reads:
    """Counts the files that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[str] = []
        hashed = identity._sha256

        def counted(file: Path) -> str:
            self.files.append(file.name)
            return hashed(file)

        monkeypatch.setattr(identity, "_sha256", counted)


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change times of files are those of this moment, whatever was said: let a minute pass."""
    now = time.time_ns()
    monkeypatch.setattr(identity.time, "time_ns", lambda: now + 60_000_000_000)


def test_a_worker_that_starts_again_reads_no_large_file_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    reads = Reads(monkeypatch)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    before = fingerprint(weights, KnownHashes(tmp_path / "hashes"))
    assert reads.files == [weights.name]
    again = KnownHashes(tmp_path / "hashes")
    assert (fingerprint(weights, again), fingerprint(weights, again)) == (before, before)
    assert reads.files == [weights.name]


@pytest.mark.parametrize("puts_the_time_back", [False, True])
def test_a_file_that_was_changed_is_read_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, puts_the_time_back: bool
) -> None:
    later(monkeypatch)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    stat = weights.stat()
    before = fingerprint(weights, KnownHashes(tmp_path / "hashes"))
    put_byte(weights, LARGE // 2, (stat.st_atime_ns, stat.st_mtime_ns) if puts_the_time_back else None)
    assert fingerprint(weights, KnownHashes(tmp_path / "hashes")) != before


def test_a_file_that_has_just_been_written_is_not_believed_next_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    known = KnownHashes(tmp_path / "hashes")
    assert known.of(weights) == known.of(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert len(reads.files) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sha256": 3}', b"\xff"])
def test_a_damaged_note_of_a_hash_costs_reading_the_file_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    later(monkeypatch)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    right = KnownHashes(tmp_path / "hashes").of(weights)
    (note,) = (tmp_path / "hashes").iterdir()
    note.write_bytes(content)
    assert KnownHashes(tmp_path / "hashes").of(weights) == right


def test_a_folder_that_cannot_be_written_costs_nothing_else(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    (tmp_path / "a_file").write_text("")
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    known = KnownHashes(tmp_path / "a_file" / "hashes")
    assert known.of(weights) == known.of(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_model_is_hashed_while_it_loads(model: Path) -> None:
    assert loaded_and_identified(model, lambda: "the pipeline") == ("the pipeline", fingerprint(model))
    with pytest.raises(ValueError, match="broken"):
        loaded_and_identified(model, lambda: int("broken"))
