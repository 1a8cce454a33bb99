"""Uploads: accepted once, under an id that follows from owner and content; kept while jobs start from them."""

from dataclasses import replace
from uuid import UUID

import pytest

from domain.aggregates.media import (
    EXTENSIONS,
    DeletedMedia,
    Media,
    UnknownMedia,
    Uploaded,
    decide,
    deleted_paths,
    evolve,
    media_id,
    owner_of,
    upload_path,
)
from domain.commands import DeleteMedia, UploadMedia, UseMedia
from domain.errors import MediaInUse, MediaMoved, NotFound
from domain.events import MediaDeleted, MediaEvent, MediaUploaded, MediaUsed
from services.files.media.formats import AUDIO_TYPES, IMAGE_TYPES, VIDEO_TYPES
from tests.spec import JOB_ID, NOW, OWNER

SHA256 = "ab" * 32
OTHER_JOB = UUID(int=7)
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
    assert decide(UPLOAD, UnknownMedia()) == [UPLOADED]
    assert evolve(UnknownMedia(), UPLOADED) == Uploaded(UPLOADED)


def test_the_same_file_again_changes_nothing() -> None:
    assert decide(replace(UPLOAD, media_type="video/webm"), Uploaded(UPLOADED)) == []


def test_it_belongs_to_who_brought_it() -> None:
    assert (owner_of(UnknownMedia()), owner_of(Uploaded(UPLOADED))) == (None, OWNER)


def test_the_same_content_has_one_id_for_each_owner() -> None:
    assert media_id(OWNER, SHA256) == media_id(OWNER, SHA256) == UUID("87f10b8e-4825-5931-a90f-867007324d36")
    assert len({media_id(owner, sha256) for owner in ("ada", "bob") for sha256 in (SHA256, "cd" * 32)}) == 4


@pytest.mark.parametrize("media_type", [*IMAGE_TYPES.values(), *VIDEO_TYPES.values(), *AUDIO_TYPES.values()])
def test_every_type_that_is_read_has_an_ending(media_type: str) -> None:
    assert upload_path(OWNER, SHA256, media_type) == f"uploads/{OWNER}/{SHA256}.{EXTENSIONS[media_type]}"
    assert EXTENSIONS[media_type].isalnum()


def media(*facts: MediaEvent) -> Media:
    """An upload after these facts."""
    state: Media = UnknownMedia()
    for fact in facts:
        state = evolve(state, fact)
    return state


USED = MediaUsed(job_id=JOB_ID)
DELETE = DeleteMedia(NOW)
AGAIN = UPLOADED.model_copy(update={"path": f"uploads/{OWNER}/{SHA256}-2.mp4"})


def test_the_first_job_that_starts_from_it_is_noted_once() -> None:
    assert decide(UseMedia(JOB_ID, NOW), media(UPLOADED)) == [USED]
    assert media(UPLOADED, USED) == Uploaded(UPLOADED, JOB_ID)
    assert decide(UseMedia(OTHER_JOB, NOW), media(UPLOADED, USED)) == []


def test_what_a_job_starts_from_cannot_be_deleted() -> None:
    with pytest.raises(MediaInUse, match=f"jobs start from it, first of all job {JOB_ID}") as refused:
        decide(DELETE, media(UPLOADED, USED))
    assert refused.value.job_id == JOB_ID


def test_what_no_job_starts_from_is_deleted_once() -> None:
    assert decide(DELETE, media(UPLOADED)) == [MediaDeleted()]
    assert media(UPLOADED, MediaDeleted()) == DeletedMedia(UPLOADED)
    assert decide(DELETE, media(UPLOADED, MediaDeleted())) == []


def test_the_file_that_was_deleted_last_is_known_even_after_another_upload() -> None:
    assert deleted_paths(media()) == deleted_paths(media(UPLOADED)) == []
    assert deleted_paths(media(UPLOADED, MediaDeleted())) == [UPLOADED.path]
    assert deleted_paths(media(UPLOADED, MediaDeleted(), AGAIN)) == [UPLOADED.path]
    assert deleted_paths(media(UPLOADED, MediaDeleted(), AGAIN, MediaDeleted())) == [AGAIN.path]


@pytest.mark.parametrize("state", [media(), media(UPLOADED, MediaDeleted())], ids=["unknown", "deleted"])
def test_nothing_starts_from_what_is_not_there(state: Media) -> None:
    with pytest.raises(NotFound):
        decide(UseMedia(JOB_ID, NOW), state)


def test_what_never_was_cannot_be_deleted() -> None:
    with pytest.raises(NotFound):
        decide(DELETE, UnknownMedia())


def test_content_that_comes_again_after_it_was_deleted_lies_elsewhere() -> None:
    assert decide(UPLOAD, media(UPLOADED, MediaDeleted())) == [AGAIN]
    assert media(UPLOADED, MediaDeleted(), AGAIN) == Uploaded(AGAIN, times=2)
    third = decide(UPLOAD, media(UPLOADED, MediaDeleted(), AGAIN, MediaDeleted()))
    assert third == [UPLOADED.model_copy(update={"path": f"uploads/{OWNER}/{SHA256}-3.mp4"})]
    assert owner_of(media(UPLOADED, MediaDeleted())) == OWNER


def test_an_upload_to_its_old_place_is_refused_with_the_new_one() -> None:
    there = replace(UPLOAD, stored_at=UPLOADED.path)
    assert decide(there, UnknownMedia()) == [UPLOADED]
    assert decide(there, media(UPLOADED)) == []
    for state in (media(UPLOADED, MediaDeleted()), media(UPLOADED, MediaDeleted(), AGAIN)):
        with pytest.raises(MediaMoved) as moved:
            decide(there, state)
        assert moved.value.path == AGAIN.path
    assert decide(replace(UPLOAD, stored_at=AGAIN.path), media(UPLOADED, MediaDeleted())) == [AGAIN]


def test_a_job_does_not_start_from_the_place_of_an_upload_that_was_deleted() -> None:
    state = media(UPLOADED, MediaDeleted(), AGAIN)
    assert decide(UseMedia(JOB_ID, NOW, AGAIN.path), state) == [USED]
    with pytest.raises(NotFound):
        decide(UseMedia(JOB_ID, NOW, UPLOADED.path), state)
