"""The demo model: a tiny SDXL that every machine can build and run."""

import shutil
import tempfile
from pathlib import Path

from gpu_worker.engines.model_files import fingerprint

SEAL = "demo_fingerprint"
"""Holds the fingerprint of the finished folder: a file that was cut off or changed since is noticed."""


def build_demo_sdxl(folder: Path) -> bool:
    """Build the demo model in `folder` and return True, or return False when a whole one is there.

    The folder appears at once and complete. A broken demo model is replaced; a folder that holds anything else raises
    FileExistsError. Building again, also from two processes at once, is safe.
    """
    folder = folder.expanduser().absolute()
    if is_whole(folder):
        return False
    if folder.exists() and any(folder.iterdir()) and not (folder / SEAL).exists():
        raise FileExistsError(f"{folder} holds something that is not a demo model; give an empty or a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    from gpu_worker.demo.sdxl import save  # noqa: PLC0415 - brings torch, seconds that a finished model does not need

    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "model"
        save(fresh)
        (fresh / SEAL).write_text(fingerprint(fresh) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            fresh.rename(folder)
        except OSError:
            # Another process may have built the same model between these two lines.
            if not is_whole(folder):
                raise
    return True


def is_whole(folder: Path) -> bool:
    """Tell whether a finished and unharmed demo model lies there."""
    seal = folder / SEAL
    return seal.is_file() and seal.read_text(encoding="utf-8").strip() == fingerprint(folder)
