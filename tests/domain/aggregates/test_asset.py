"""What becomes of an asset: its thumbnail, and rating, naming, tagging, saving, trashing, dismissing by its owner."""

from typing import get_args

import pytest

from domain.aggregates.asset import Asset, Completed, Reserved, UnknownAsset, evolve, job_of, owner_of, status_of
from domain.bounds import TAGS_MAX
from domain.commands import (
    AssetCommand,
    ChangeTags,
    DismissAsset,
    PurgeAsset,
    RateAsset,
    RestoreAsset,
    SaveAsset,
    TagAsset,
    ThumbnailAsset,
    TitleAsset,
    TrashAsset,
    UnsaveAsset,
)
from domain.errors import AssetGone, AssetInProgress, AssetNotCompleted, AssetNotTrashed, InvalidInput, NotFound
from domain.events import (
    AssetCanceled,
    AssetDismissed,
    AssetEvent,
    AssetFailed,
    AssetPurged,
    AssetRated,
    AssetRestored,
    AssetSaved,
    AssetTagged,
    AssetTitled,
    AssetTrashed,
    AssetUnsaved,
)
from tests.spec import INVALID_INPUT, JOB_ID, NOW, OWNER, file_of, given_asset, reservation, thumbnail_of, when_asset

RESERVED = reservation(0)
COMPLETED = file_of(0, attempt=1)
THUMBNAILED = thumbnail_of(0)
FAILED = AssetFailed(attempt=1, error=INVALID_INPUT)
CANCELED = AssetCanceled()

THUMBNAIL = ThumbnailAsset(thumbnailed=THUMBNAILED, now=NOW)
RATE = RateAsset(score=4, now=NOW)
TITLE = TitleAsset(title="Fog", now=NOW)
TAG = TagAsset(tags=("fog", "sea"), now=NOW)
SAVE, UNSAVE = SaveAsset(now=NOW), UnsaveAsset(now=NOW)
TRASH, RESTORE = TrashAsset(now=NOW), RestoreAsset(now=NOW)
PURGE = PurgeAsset(now=NOW)
DISMISS = DismissAsset(now=NOW)
CHANGE_TAGS = ChangeTags(add=("fog",), remove=("sea",), now=NOW)
ON_FILES: list[AssetCommand] = [THUMBNAIL, RATE, TITLE, TAG, CHANGE_TAGS, SAVE, UNSAVE, TRASH, RESTORE, PURGE]
COMMANDS = [*ON_FILES, DISMISS]
WITHOUT_FILE: dict[str, list[AssetEvent]] = {
    "reserved": [RESERVED],
    "failed": [RESERVED, FAILED],
    "canceled": [RESERVED, CANCELED],
}


def _name(command: AssetCommand) -> str:
    return type(command).__name__


def test_every_command_is_specified_here() -> None:
    assert {type(command) for command in COMMANDS} == set(get_args(AssetCommand))


@pytest.mark.parametrize("command", COMMANDS, ids=_name)
def test_nothing_can_be_made_of_an_asset_that_was_never_reserved(command: AssetCommand) -> None:
    with pytest.raises(NotFound) as caught:
        when_asset(given_asset(), command)
    assert (caught.value.kind, str(caught.value)) == ("asset", "There is no asset under this id.")


@pytest.mark.parametrize("status", WITHOUT_FILE)
@pytest.mark.parametrize("command", ON_FILES, ids=_name)
def test_only_a_completed_asset_can_be_changed(command: AssetCommand, status: str) -> None:
    with pytest.raises(AssetNotCompleted) as caught:
        when_asset(given_asset(*WITHOUT_FILE[status]), command)
    assert caught.value.status == status
    assert str(caught.value) == f"The asset is {status}; only a completed asset can be changed."


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (THUMBNAIL, THUMBNAILED),
        (RATE, AssetRated(score=4)),
        (TITLE, AssetTitled(title="Fog")),
        (TAG, AssetTagged(tags=("fog", "sea"))),
        (SAVE, AssetSaved()),
        (TRASH, AssetTrashed()),
        (DISMISS, AssetDismissed()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_completed_asset_is_changed_once_however_often_one_asks(command: AssetCommand, fact: AssetEvent) -> None:
    assert when_asset(given_asset(RESERVED, COMPLETED), command) == [fact]
    assert when_asset(given_asset(RESERVED, COMPLETED, fact), command) == []


def test_an_asset_gets_one_thumbnail_and_keeps_it() -> None:
    asset = given_asset(RESERVED, COMPLETED, THUMBNAILED)
    assert isinstance(asset, Completed)
    assert asset.thumbnail == THUMBNAILED
    assert when_asset(asset, ThumbnailAsset(thumbnailed=thumbnail_of(1), now=NOW)) == []


def test_a_trashed_asset_gets_its_thumbnail_too() -> None:
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed()), THUMBNAIL) == [THUMBNAILED]


def test_rating_again_replaces_the_score() -> None:
    rated = given_asset(RESERVED, COMPLETED, AssetRated(score=4))
    assert when_asset(rated, RateAsset(score=2, now=NOW)) == [AssetRated(score=2)]
    assert when_asset(evolve(rated, AssetRated(score=2)), RATE) == [AssetRated(score=4)]


def test_a_name_can_be_taken_away() -> None:
    nameless = TitleAsset(title=None, now=NOW)
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTitled(title="Fog")), nameless) == [AssetTitled(title=None)]
    assert when_asset(given_asset(RESERVED, COMPLETED), nameless) == []


def test_tags_are_a_set_in_order() -> None:
    asset = given_asset(RESERVED, COMPLETED)
    unsorted = TagAsset(tags=("sea", "fog", "sea"), now=NOW)
    assert when_asset(asset, unsorted) == [AssetTagged(tags=("fog", "sea"))]
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTagged(tags=("fog", "sea"))), unsorted) == []
    assert when_asset(asset, TagAsset(tags=(), now=NOW)) == []


def change_tags(*add: str, remove: tuple[str, ...] = ()) -> ChangeTags:
    return ChangeTags(add=add, remove=remove, now=NOW)


def test_tags_are_added_and_taken_away_and_all_others_stay() -> None:
    asset = given_asset(RESERVED, COMPLETED, AssetTagged(tags=("fog", "sea")))
    assert when_asset(asset, change_tags("o\u0308l", "fog")) == [AssetTagged(tags=("fog", "sea", "\u00f6l"))]
    assert when_asset(asset, change_tags(remove=("fog", "ice"))) == [AssetTagged(tags=("sea",))]
    assert when_asset(asset, change_tags("ice", remove=("sea",))) == [AssetTagged(tags=("fog", "ice"))]
    assert when_asset(asset, change_tags("fog", remove=("ice",))) == []


def test_tags_are_added_up_to_a_bound_and_taken_away_beyond_it() -> None:
    full = tuple(f"{number:02}" for number in range(TAGS_MAX))
    asset = given_asset(RESERVED, COMPLETED, AssetTagged(tags=full))
    with pytest.raises(InvalidInput):
        when_asset(asset, change_tags("one more"))
    assert when_asset(asset, change_tags("one more", remove=("00",))) == [AssetTagged(tags=(*full[1:], "one more"))]
    old = given_asset(RESERVED, COMPLETED, AssetTagged(tags=(*full, "a", "b", "c")))  # as an import may bring it
    assert when_asset(old, change_tags(remove=("a",))) == [AssetTagged(tags=(*full, "b", "c"))]


def test_what_was_saved_can_be_kept_no_longer() -> None:
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetSaved()), UNSAVE) == [AssetUnsaved()]
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetSaved(), AssetUnsaved()), UNSAVE) == []
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetSaved(), AssetUnsaved()), SAVE) == [AssetSaved()]


def test_what_was_trashed_can_be_restored() -> None:
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed()), RESTORE) == [AssetRestored()]
    assert when_asset(given_asset(RESERVED, COMPLETED), RESTORE) == []
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed(), AssetRestored()), TRASH) == [AssetTrashed()]


def test_only_what_is_in_the_trash_is_deleted_for_good() -> None:
    with pytest.raises(AssetNotTrashed, match="move it there first"):
        when_asset(given_asset(RESERVED, COMPLETED), PURGE)
    with pytest.raises(AssetNotTrashed):
        when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed(), AssetRestored()), PURGE)
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed()), PURGE) == [AssetPurged()]
    assert when_asset(given_asset(RESERVED, COMPLETED, AssetTrashed(), AssetPurged()), PURGE) == []


@pytest.mark.parametrize("command", [one for one in COMMANDS if one is not PURGE], ids=_name)
def test_nothing_changes_about_an_asset_that_was_purged(command: AssetCommand) -> None:
    purged = given_asset(RESERVED, COMPLETED, AssetTrashed(), AssetPurged())
    with pytest.raises(AssetGone, match="its file is gone"):
        when_asset(purged, command)


@pytest.mark.parametrize("ending", [COMPLETED, FAILED, CANCELED], ids=lambda event: type(event).__name__)
def test_whatever_ended_can_be_dismissed_once(ending: AssetEvent) -> None:
    assert when_asset(given_asset(RESERVED, ending), DISMISS) == [AssetDismissed()]
    assert when_asset(given_asset(RESERVED, ending, AssetDismissed()), DISMISS) == []


def test_an_asset_in_progress_cannot_be_dismissed() -> None:
    with pytest.raises(AssetInProgress, match="cancel its job instead"):
        when_asset(given_asset(RESERVED), DISMISS)


# States.


def test_the_fold_keeps_what_the_owner_made_of_it() -> None:
    asset = given_asset(
        RESERVED, COMPLETED, AssetRated(score=2), AssetTitled(title="Fog"), AssetTagged(tags=("sea",)),
        AssetSaved(), AssetTrashed(), AssetRated(score=5), AssetDismissed(),
    )  # fmt: skip
    assert isinstance(asset, Completed)
    assert (asset.reservation, asset.completed, asset.dismissed) == (RESERVED, COMPLETED, True)
    curation = asset.curation
    assert (curation.rating, curation.title, curation.tags) == (5, "Fog", ("sea",))
    assert (curation.saved, curation.trashed) == (True, True)


@pytest.mark.parametrize(
    ("asset", "status"),
    [
        (given_asset(), "unknown"),
        (given_asset(RESERVED), "reserved"),
        (given_asset(RESERVED, COMPLETED), "completed"),
        (given_asset(RESERVED, COMPLETED, AssetTrashed(), AssetPurged()), "purged"),
        (given_asset(RESERVED, FAILED), "failed"),
        (given_asset(RESERVED, CANCELED), "canceled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_asset_knows_its_status_owner_and_job(asset: Asset, status: str) -> None:
    assert status_of(asset) == status
    known = status != "unknown"
    assert owner_of(asset) == (OWNER if known else None)
    assert job_of(asset) == (JOB_ID if known else None)


def test_folding_enforces_no_rule_on_what_has_no_file() -> None:
    facts: list[AssetEvent] = [AssetRated(score=1), AssetTitled(title="Fog"), AssetTagged(tags=()), AssetSaved()]
    facts += [AssetUnsaved(), AssetTrashed(), AssetRestored(), AssetDismissed(), AssetPurged(), THUMBNAILED]
    assert given_asset(RESERVED, *facts) == Reserved(RESERVED)
    assert given_asset(*facts) == UnknownAsset()


@pytest.mark.parametrize("ending", [COMPLETED, FAILED, CANCELED], ids=lambda event: type(event).__name__)
def test_history_that_ends_what_was_never_reserved_is_damaged(ending: AssetEvent) -> None:
    with pytest.raises(ValueError, match="damaged; run darkroom verify"):
        given_asset(ending)
