"""One expected output of a job: reserved, then completed, failed or canceled; after that its owner curates it."""

from dataclasses import dataclass, field, replace
from typing import assert_never
from uuid import UUID

from domain.aggregates.media import kind_of, unfit_type
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
from domain.errors import (
    AssetGone,
    AssetInProgress,
    AssetNotCompleted,
    AssetNotTrashed,
    FieldProblem,
    InvalidInput,
    NotFound,
)
from domain.events import (
    AssetCanceled,
    AssetCompleted,
    AssetDismissed,
    AssetEvent,
    AssetFailed,
    AssetPurged,
    AssetRated,
    AssetReserved,
    AssetRestored,
    AssetSaved,
    AssetTagged,
    AssetThumbnailed,
    AssetTitled,
    AssetTrashed,
    AssetUnsaved,
)
from domain.wording.text import normalized_tags


@dataclass(frozen=True, slots=True)
class UnknownAsset:
    """No asset was reserved under this id."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The job has not produced it yet."""

    reservation: AssetReserved


@dataclass(frozen=True, slots=True)
class Curation:
    """The owner's changes to a completed asset."""

    rating: int | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    saved: bool = False
    trashed: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """The file exists."""

    reservation: AssetReserved
    completed: AssetCompleted
    curation: Curation = field(default_factory=Curation)
    thumbnail: AssetThumbnailed | None = None
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class Purged:
    """The asset was completed and then permanently deleted. Its file is gone; `completed` still describes it."""

    reservation: AssetReserved
    completed: AssetCompleted


@dataclass(frozen=True, slots=True)
class FailedAsset:
    """The asset failed; it has no file."""

    reservation: AssetReserved
    failed: AssetFailed
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class CanceledAsset:
    """The asset was canceled; it has no file."""

    reservation: AssetReserved
    dismissed: bool = False


Asset = UnknownAsset | Reserved | Completed | Purged | FailedAsset | CanceledAsset
Ended = Completed | Purged | FailedAsset | CanceledAsset


def decide(command: AssetCommand, asset: Asset) -> list[AssetEvent]:
    """Apply a command to an asset. A repeated command returns nothing."""
    match asset:
        case UnknownAsset():
            raise NotFound("asset", "under this id")
        case Completed():
            return _change(command, asset)
        case Reserved():
            if isinstance(command, DismissAsset):
                raise AssetInProgress
            raise AssetNotCompleted("reserved")
        case Purged():
            if isinstance(command, PurgeAsset):
                return []
            raise AssetGone
        case FailedAsset() | CanceledAsset():
            if isinstance(command, DismissAsset):
                return [] if asset.dismissed else [AssetDismissed()]
            raise AssetNotCompleted(status_of(asset))
        case _:
            assert_never(asset)


def _change(command: AssetCommand, asset: Completed) -> list[AssetEvent]:
    curation = asset.curation
    match command:
        case ThumbnailAsset(thumbnailed=thumbnailed):
            return [thumbnailed] if asset.thumbnail is None else []
        case RateAsset(score=score):
            return [] if curation.rating == score else [AssetRated(score=score)]
        case TitleAsset(title=title):
            return [] if curation.title == title else [AssetTitled(title=title)]
        case TagAsset(tags=tags):
            wanted = normalized_tags(tags)
            return [] if curation.tags == wanted else [AssetTagged(tags=wanted)]
        case ChangeTags(add=add, remove=remove):
            return _change_tags(curation.tags, normalized_tags(add), normalized_tags(remove))
        case SaveAsset():
            return [] if curation.saved else [AssetSaved()]
        case UnsaveAsset():
            return [AssetUnsaved()] if curation.saved else []
        case DismissAsset():
            return [] if asset.dismissed else [AssetDismissed()]
        case TrashAsset():
            return [] if curation.trashed else [AssetTrashed()]
        case RestoreAsset():
            return [AssetRestored()] if curation.trashed else []
        case PurgeAsset():
            if not curation.trashed:
                raise AssetNotTrashed
            return [AssetPurged()]
        case _:
            assert_never(command)


def _change_tags(tags: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]) -> list[AssetEvent]:
    """Raises `InvalidInput` if there would be too many. Removing tags is always possible."""
    wanted = tuple(sorted({*tags, *add} - {*remove}))
    if len(wanted) > max(TAGS_MAX, len(tags)):
        raise InvalidInput([FieldProblem("add_tags", f"makes {len(wanted)} tags; at most {TAGS_MAX} are possible")])
    return [] if wanted == tags else [AssetTagged(tags=wanted)]


def evolve(asset: Asset, event: AssetEvent) -> Asset:
    """Apply one event. Total, and without rules: history has already happened."""
    match event:
        case AssetReserved():
            return Reserved(event)
        case AssetCompleted():
            reservation = _reservation(asset)
            return Completed(reservation, event, Curation(title=reservation.title, tags=reservation.tags))
        case AssetFailed():
            return FailedAsset(_reservation(asset), event)
        case AssetCanceled():
            return CanceledAsset(_reservation(asset))
        case AssetThumbnailed():
            return replace(asset, thumbnail=event) if isinstance(asset, Completed) else asset
        case AssetDismissed():
            return asset if isinstance(asset, UnknownAsset | Reserved | Purged) else replace(asset, dismissed=True)
        case AssetRated(score=score):
            return _curated(asset, rating=score)
        case AssetTitled(title=title):
            return _curated(asset, title=title)
        case AssetTagged(tags=tags):
            return _curated(asset, tags=tags)
        case AssetSaved():
            return _curated(asset, saved=True)
        case AssetUnsaved():
            return _curated(asset, saved=False)
        case AssetTrashed():
            return _curated(asset, trashed=True)
        case AssetRestored():
            return _curated(asset, trashed=False)
        case AssetPurged():
            return Purged(asset.reservation, asset.completed) if isinstance(asset, Completed) else asset
        case _:
            assert_never(event)


def require_file_of(reserved: AssetReserved, completed: AssetCompleted) -> None:
    """Raises `InvalidInput` if the file's kind differs from the reserved output: a video for an image."""
    if kind_of(completed.media_type) != reserved.kind:
        raise InvalidInput([FieldProblem("media_type", unfit_type(completed.media_type, reserved.kind))])


def status_of(asset: Asset) -> str:
    """The asset's status in the API."""
    match asset:
        case UnknownAsset():
            return "unknown"
        case Reserved():
            return "reserved"
        case Completed():
            return "completed"
        case Purged():
            return "purged"
        case FailedAsset():
            return "failed"
        case CanceledAsset():
            return "canceled"
        case _:
            assert_never(asset)


def owner_of(asset: Asset) -> str | None:
    """The owner of the asset; None for an id that was never reserved."""
    return None if isinstance(asset, UnknownAsset) else asset.reservation.owner


def job_of(asset: Asset) -> UUID | None:
    """The job that the asset belongs to."""
    return None if isinstance(asset, UnknownAsset) else asset.reservation.job_id


def _reservation(asset: Asset) -> AssetReserved:
    if isinstance(asset, UnknownAsset):
        raise ValueError("The ledger ends an asset that was never reserved: it is damaged; run darkroom verify.")
    return asset.reservation


def _curated(asset: Asset, **changes: object) -> Asset:
    if not isinstance(asset, Completed):
        return asset
    return replace(asset, curation=replace(asset.curation, **changes))  # type: ignore[arg-type]
