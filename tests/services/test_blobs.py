"""Files: written once, whole, and readable in parts."""

from pathlib import Path

import pytest

from services.blobs import BlobMissing, Blobs


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
    monkeypatch.setattr("services.blobs.CHUNK_BYTES", 4)
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
