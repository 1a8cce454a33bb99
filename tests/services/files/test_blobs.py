"""Files: written once, whole, and readable in parts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.files.blobs import UNFINISHED, BlobMissing, Blobs
from tests.services.commits import eventually


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "a folder" / "blobs").as_uri())


def test_the_first_writer_of_a_path_wins(blobs: Blobs):
    assert blobs.put_once("bucket/owner/job_0.png", b"first")
    assert not blobs.put_once("bucket/owner/job_0.png", b"a late worker")
    assert blobs.get("bucket/owner/job_0.png") == b"first"


def test_a_file_lies_where_its_path_says(blobs: Blobs, tmp_path: Path):
    blobs.put_once("bucket/owner/job_0.png", b"content")
    assert (tmp_path / "a folder" / "blobs" / "bucket" / "owner" / "job_0.png").read_bytes() == b"content"


def test_a_description_is_computed_from_the_content(blobs: Blobs):
    blobs.put_once("x.png", b"abc")
    described = blobs.describe("x.png")
    assert described.bytes == 3
    assert described.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_said_by_name(blobs: Blobs):
    with pytest.raises(BlobMissing, match=r"no file at nowhere\.png"):
        blobs.get("nowhere.png")


async def test_a_part_of_a_file_is_read_in_chunks(blobs: Blobs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.files.blobs.CHUNK_BYTES", 4)
    blobs.put_once("x.bin", bytes(range(20)))
    chunks = [chunk async for chunk in blobs.read("x.bin", 3, 13)]
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert b"".join(chunks) == bytes(range(3, 13))


async def test_existence_is_asked_and_deleting_twice_is_harmless(blobs: Blobs):
    blobs.put_once("x.bin", b"x")
    assert await blobs.exists("x.bin")
    blobs.delete("x.bin")
    blobs.delete("x.bin")
    assert not await blobs.exists("x.bin")


WRITING = """
import os, sys
from services.files.blobs import Blobs
os.fsync = lambda _: os.kill(os.getpid(), 9)  # written, and not named yet
Blobs(sys.argv[1]).put_once("bucket/owner/job_0.png", b"whole")
"""


def test_a_writer_that_is_killed_leaves_no_file_and_what_it_left_is_taken_away(tmp_path: Path):
    folder = tmp_path / "blobs"
    blobs = Blobs(folder.as_uri())
    ended = subprocess.run([sys.executable, "-c", WRITING, folder.as_uri()], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = [file for file in folder.rglob("*") if file.is_file()]
    assert left.parent == folder / UNFINISHED
    blobs.remove_unfinished(older_than_s=3600)
    assert left.exists()  # somebody may be writing it
    assert blobs.put_once("bucket/owner/job_0.png", b"whole")
    os.utime(left, (time.time() - 3601,) * 2)
    blobs.remove_unfinished(older_than_s=3600)
    assert [file.name for file in folder.rglob("*") if file.is_file()] == ["job_0.png"]


def test_a_file_is_whole_from_the_moment_that_it_is_there(tmp_path: Path):
    folder = tmp_path / "blobs"
    content = "b'x' * 30_000_000"
    writing = f"import sys; from services.files.blobs import Blobs; Blobs(sys.argv[1]).put_once('x.bin', {content})"
    with subprocess.Popen([sys.executable, "-c", writing, folder.as_uri()]) as writer:
        eventually((folder / "x.bin").exists)
        assert (folder / "x.bin").stat().st_size == 30_000_000
        writer.kill()


def test_a_path_that_leads_out_is_refused(blobs: Blobs):
    with pytest.raises(ValueError, match="leads out"):
        blobs.put_once("../elsewhere.png", b"x")
