"""Nothing that a bundle says is believed: bounds, types, owners and files are those that the domain allows."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.bundle.layout import EVENTS, MANIFEST
from tests.databases import Databases
from tests.services.bundle.test_bundle_damage import (
    packed,
    require_refused,
    there,
    unpacked,
    with_data,
    with_events,
    written,
)
from tests.services.places import Place, opened

__all__ = ["there", "written"]

MEGABYTE = "x" * 1_000_000
MEMORY_MB_MAX = 150
"""Of a process that examines a bundle, its modules included."""

Change = Callable[[list[dict[str, Any]]], object]


def with_meta(topic: str, **meta: Any) -> Change:
    """Changes what surrounds the event."""

    def change(lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["topic"] == topic)
        state = json.loads(line["state"])
        state["meta"].update(meta)
        line["state"] = json.dumps(state)

    return change


def with_recipe(**of_recipe: Any) -> Change:
    """Changes the recipe of the job."""

    def change(lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["topic"] == "job.queued.v1")
        state = json.loads(line["state"])
        state["data"]["recipe"].update(of_recipe)
        line["state"] = json.dumps(state)

    return change


def with_file(**of_file: Any) -> Change:
    """Changes what the job starts from, as its recipe describes it."""

    def change(lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["topic"] == "job.queued.v1")
        state = json.loads(line["state"])
        for file in state["data"]["recipe"]["files"].values():
            file.update(of_file)
        line["state"] = json.dumps(state)

    return change


REFUSED: tuple[tuple[Change, str], ...] = (
    (with_data("asset.completed.v1", media_type="text/html"), "media_type: must be one of"),
    (with_data("asset.completed.v1", media_type="image/svg+xml"), "media_type: must be one of"),
    (with_data("asset.completed.v1", media_type="image/png\r\nX: 1"), "media_type: must be one of"),
    (with_data("asset.completed.v1", worker_versions={"torch": MEGABYTE}), "bytes, more than"),
    (with_data("asset.completed.v1", worker_versions={"torch": "x" * 1_000}), "at most 300 characters"),
    (with_data("asset.completed.v1", width=2**60), "width: must be a number"),
    (with_data("media.uploaded.v1", media_type="text/html"), "media_type: must be one of"),
    (with_data("asset.completed.v1", media_type="video/mp4"), "media_type: must be a type of image"),
    (with_data("asset.completed.v1", media_type="audio/mpeg"), "media_type: must be a type of image"),
    (with_data("asset.reserved.v1", kind="video"), "media_type: must be a type of video"),
    (with_data("media.uploaded.v1", media_type="video/mp4"), "media_type: must be a type of image"),
    (with_data("media.uploaded.v1", kind="video"), "media_type: must be a type of video"),
    (with_data("job.started.v1", worker=MEGABYTE), "bytes, more than"),
    (with_data("job.started.v1", worker="x" * 1_000), "at most 300 characters"),
    (with_data("job.queued.v1", tags=["x"] * 5_000), "tags: must be at most 200"),
    (with_data("job.queued.v1", deadline="2031-05-04T12:00:00"), "its offset from UTC"),
    (with_recipe(prompt="x" * 10_001), "prompt: must have at most 10000"),
    (with_recipe(prompt="fog\0"), "NUL character"),
    (with_recipe(seeds=list(range(5_000))), "quantity: must be at most 1000"),
    (with_recipe(params={f"p{number}": 1 for number in range(1_000)}), "params: must be at most 200"),
    (with_file(path="uploads/eve/secret.png"), "starts from another file"),
    (with_file(sha256="0" * 64), "starts from another file"),
    (with_file(media_type="image/webp"), "starts from another file"),
    (with_file(kind="video"), "files: must be a type of video"),
    (with_file(kind="video", media_type="video/mp4"), "starts from another file"),
    (with_meta("job.queued.v1", correlation_id=str(uuid4())), "names another one"),
    (with_meta("asset.completed.v1", correlation_id=str(uuid4())), "names another one"),
    (with_meta("media.uploaded.v1", correlation_id=str(uuid4())), "names another one"),
    (with_meta("job.started.v1", actor=MEGABYTE), "bytes, more than"),
    (with_meta("job.started.v1", actor="x" * 1_000), "nobody who can have a name"),
    (with_meta("job.started.v1", actor="ada\n"), "nobody who can have a name"),
    (with_meta("job.started.v1", actor=""), "nobody who can have a name"),
    (with_meta("job.started.v1", at="2031-05-04T12:00:00"), "its offset from UTC"),
    (with_meta("job.started.v1", owner="bob"), "names two owners"),
    (with_data("job.queued.v1", batch_id=str(uuid4())), "the batch of job .* is not among them"),
)


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_the_domain_does_not_allow_is_not_taken_in(written: Path, there: Place, change: Change, why: str) -> None:
    require_refused(there, packed(with_events(unpacked(written), change)), why)


def test_a_job_is_not_made_from_the_file_of_another_owner(databases: Databases, tmp_path: Path, there: Place) -> None:
    """Eve's job names what Ada uploaded: with the ids of Ada's file, or with Eve's ids and Ada's path."""
    (tmp_path / "here").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "here") as here:
        secret = here.upload(b"Ada's secret", owner="ada")
        own = here.upload(b"Eve's own", owner="eve")
        here.finish(here.submit(here.from_upload(own), uploads=[own], owner="eve"))
        secret_path = here.ledger.media(secret).uploaded.path
        own_path = here.ledger.media(own).uploaded.path
        here.export(None, tmp_path / "bundle.zip")
    entries = unpacked(tmp_path / "bundle.zip")
    stolen = entries[EVENTS].replace(f"media:{own}".encode(), f"media:{secret}".encode())
    require_refused(there, packed({**entries, EVENTS: stolen}), "which belongs to another owner")

    def change(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["topic"] == "job.queued.v1":
                line["state"] = line["state"].replace(own_path, secret_path)

    require_refused(there, packed(with_events(entries, change)), "starts from another file")


BOMBS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a prompt of 16 MB": lambda data: data["recipe"].update(prompt="x" * 16_000_000),
    "eight million seeds": lambda data: data["recipe"].update(seeds=[1] * 8_000_000),
    "five million tags": lambda data: data.update(tags=[""] * 5_000_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_takes_no_more_memory_than_a_large_one(written: Path, tmp_path: Path, bomb: str) -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["topic"] == "job.queued.v1")
        state = json.loads(line["state"])
        BOMBS[bomb](state["data"])
        line["state"] = json.dumps(state)

    file = tmp_path / "bomb.zip"
    file.write_bytes(packed(with_events(unpacked(written), change)))
    assert file.stat().st_size < 300_000
    assert peak_mb_of_examining(file) < MEMORY_MB_MAX


def test_a_commit_of_many_large_events_is_refused_before_it_is_in_memory(written: Path, tmp_path: Path) -> None:
    entries = unpacked(written)
    lines = [json.loads(line) for line in entries[EVENTS].splitlines()]
    model = next(line for line in lines if line["topic"] == "media.uploaded.v1")
    many = [
        {**model, "commit": 1, "stream": str(uuid4()), "state": model["state"][:-1] + " " * 200_000 + "}"}
        for _ in range(600)
    ]
    said = {**json.loads(entries[MANIFEST]), "events": len(many)}
    file = tmp_path / "bomb.zip"
    events = b"".join(json.dumps(line).encode() + b"\n" for line in many)
    file.write_bytes(packed({**entries, EVENTS: events, MANIFEST: json.dumps(said).encode()}))
    assert file.stat().st_size < 1_000_000
    assert peak_mb_of_examining(file) < MEMORY_MB_MAX


EXAMINE = """
import re, sys
from pathlib import Path
from services.bundle.errors import BundleDamaged
from services.bundle.reading import opened
try:
    with opened(Path(sys.argv[1])) as bundle:
        bundle.examine(lambda *_: None)
except BundleDamaged as refusal:
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_mb_of_examining(file: Path) -> int:
    """Of a process of its own, which has to refuse the bundle."""
    done = subprocess.run(
        [sys.executable, "-c", EXAMINE, str(file)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)
