"""Uploads: accepted once, under an id that follows from owner and content."""

from dataclasses import replace
from uuid import UUID

import pytest

from domain.commands import UploadMedia
from domain.events import MediaUploaded
from domain.media import EXTENSIONS, Unknown, Uploaded, decide, evolve, media_id, owner_of, upload_path
from services.media import AUDIO_TYPES, IMAGE_TYPES, VIDEO_TYPES
from tests.spec import NOW, OWNER

SHA256 = "ab" * 32
UPLOAD = UploadMedia(
    owner=OWNER,
    kind="video",
    media_type="video/mp4",
    bytes=812_345,
    sha256=SHA256,
    now=NOW,
    width=832,
    height=480,
    frames=81,
    fps=16.0,
    duration_s=5.063,
)
UPLOADED = MediaUploaded(
    owner=OWNER,
    kind="video",
    media_type="video/mp4",
    bytes=812_345,
    sha256=SHA256,
    width=832,
    height=480,
    frames=81,
    fps=16.0,
    duration_s=5.063,
    path=f"uploads/{OWNER}/{SHA256}.mp4",
)


def test_an_upload_says_what_the_file_is_and_where_it_lies() -> None:
    assert decide(UPLOAD, Unknown()) == [UPLOADED]
    assert evolve(Unknown(), UPLOADED) == Uploaded(UPLOADED)


def test_the_same_file_again_changes_nothing() -> None:
    assert decide(replace(UPLOAD, media_type="video/webm"), Uploaded(UPLOADED)) == []


def test_it_belongs_to_who_brought_it() -> None:
    assert (owner_of(Unknown()), owner_of(Uploaded(UPLOADED))) == (None, OWNER)


def test_the_same_content_has_one_id_for_each_owner() -> None:
    assert media_id(OWNER, SHA256) == media_id(OWNER, SHA256) == UUID("87f10b8e-4825-5931-a90f-867007324d36")
    assert len({media_id(owner, sha256) for owner in ("ada", "bob") for sha256 in (SHA256, "cd" * 32)}) == 4


@pytest.mark.parametrize("media_type", [*IMAGE_TYPES.values(), *VIDEO_TYPES.values(), *AUDIO_TYPES.values()])
def test_every_type_that_is_read_has_an_ending(media_type: str) -> None:
    assert upload_path(OWNER, SHA256, media_type) == f"uploads/{OWNER}/{SHA256}.{EXTENSIONS[media_type]}"
    assert EXTENSIONS[media_type].isalnum()
