"""All commands. Time is passed as `now` and randomness as `jitter`, so the deciders are pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.events import AssetCompleted, AssetThumbnailed, Failure, ItemProblem, JobNote, MediaKind
from domain.recipes.recipe import Kind, ParamValue, Recipe, Task

# Commands to a job and its assets, decided in `generation.py`.


@dataclass(frozen=True, slots=True)
class Held:
    """Pools and workers that operators hold, by name: no job starts in these pools or on these workers."""

    pools: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Accept a job and reserve its assets. `uploads` are the uploads that it uses; they can no longer be deleted."""

    job_id: UUID
    owner: str
    recipe: Recipe
    pool: str
    kind: Kind
    bucket: str
    extension: str
    now: datetime
    priority: int = 0
    batch_id: UUID | None = None
    parent_id: UUID | None = None
    tags: tuple[str, ...] = ()
    request_sha256: str | None = None
    deadline: datetime | None = None
    adjusted: Mapping[str, ParamValue] = field(default_factory=dict)
    negative_prompt_by: Literal["owner", "rule"] | None = None
    negative_prompt_error: str | None = None
    expected_s: float | None = None
    title: str | None = None
    uploads: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """A worker takes the job."""

    attempt: int
    worker: str
    now: datetime
    held: Held = field(default_factory=Held)


@dataclass(frozen=True, slots=True)
class NoteOfAttempt:
    """A worker records a note about its running attempt."""

    note: JobNote
    now: datetime

    @property
    def attempt(self) -> int:
        """The attempt that the worker believes is current."""
        return self.note.attempt


@dataclass(frozen=True, slots=True)
class ReportAssetCompleted:
    """A worker wrote the file of one asset."""

    index: int
    completed: AssetCompleted
    now: datetime

    @property
    def attempt(self) -> int:
        """The attempt that the worker believes is current."""
        return self.completed.attempt


@dataclass(frozen=True, slots=True)
class ReportAssetFailed:
    """A worker cannot make one asset; the other assets continue."""

    attempt: int
    index: int
    error: Failure
    now: datetime


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """The whole attempt failed; the retry policy decides whether to try again. `jitter` is in [0, 1)."""

    attempt: int
    error: Failure
    jitter: float
    now: datetime


@dataclass(frozen=True, slots=True)
class ReleaseAttempt:
    """The worker stops and gives the job back; this does not count as a failure."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ExpireLease:
    """The worker sent no heartbeat for a whole lease."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    """The worker stopped between steps because cancellation was requested."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class CancelJob:
    """The owner cancels the job."""

    now: datetime


@dataclass(frozen=True, slots=True)
class ReprioritizeJob:
    """An operator changes the job's priority, -10 … 10."""

    priority: int
    now: datetime


@dataclass(frozen=True, slots=True)
class AbortJob:
    """The job's deadline passed before a worker started it."""

    now: datetime


WorkerCommand = NoteOfAttempt | ReportAssetCompleted | ReportAssetFailed | FailAttempt | ReleaseAttempt | ConfirmCancel


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker's report about an attempt; it counts only if that worker has the attempt. `worker` is authenticated."""

    worker: str
    command: WorkerCommand

    @property
    def attempt(self) -> int:
        """The attempt that the worker believes is current."""
        return self.command.attempt

    @property
    def now(self) -> datetime:
        """The time of the report."""
        return self.command.now


JobCommand = (
    SubmitJob
    | StartAttempt
    | Reported
    | NoteOfAttempt
    | ReportAssetCompleted
    | ReportAssetFailed
    | FailAttempt
    | ReleaseAttempt
    | ExpireLease
    | ConfirmCancel
    | CancelJob
    | ReprioritizeJob
    | AbortJob
)

# Commands to one asset, decided in `asset.py`.


@dataclass(frozen=True, slots=True)
class ThumbnailAsset:
    """The asset's thumbnail was written."""

    thumbnailed: AssetThumbnailed
    now: datetime


@dataclass(frozen=True, slots=True)
class RateAsset:
    """Rate the asset, 1 … 5."""

    score: int
    now: datetime


@dataclass(frozen=True, slots=True)
class TitleAsset:
    """Set the title; null removes it."""

    title: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class TagAsset:
    """Replace the tags."""

    tags: tuple[str, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class ChangeTags:
    """Add and remove tags; all others stay, including those from concurrent changes."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class SaveAsset:
    """Save the asset."""

    now: datetime


@dataclass(frozen=True, slots=True)
class UnsaveAsset:
    """Undo saving."""

    now: datetime


@dataclass(frozen=True, slots=True)
class DismissAsset:
    """Remove the asset from the workspace."""

    now: datetime


@dataclass(frozen=True, slots=True)
class TrashAsset:
    """Move the asset to the trash."""

    now: datetime


@dataclass(frozen=True, slots=True)
class RestoreAsset:
    """Restore the asset from the trash."""

    now: datetime


@dataclass(frozen=True, slots=True)
class PurgeAsset:
    """Permanently delete the asset; it must be in the trash."""

    now: datetime


AssetCommand = (
    ThumbnailAsset
    | RateAsset
    | TitleAsset
    | TagAsset
    | ChangeTags
    | SaveAsset
    | UnsaveAsset
    | DismissAsset
    | TrashAsset
    | RestoreAsset
    | PurgeAsset
)

# Commands to one upload, decided in `media.py`.


@dataclass(frozen=True, slots=True)
class UploadMedia:
    """Accept a file that is already stored; its properties were found by decoding it.

    `stored_at` is its path in the object store; None skips the check that this is still the right path.
    """

    owner: str
    kind: MediaKind
    media_type: str
    bytes: int
    sha256: str
    now: datetime
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    stored_at: str | None = None


@dataclass(frozen=True, slots=True)
class UseMedia:
    """A job uses the upload, at `path` as in its recipe; None accepts any path."""

    job_id: UUID
    now: datetime
    path: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteMedia:
    """The owner deletes the upload."""

    now: datetime


MediaCommand = UploadMedia | UseMedia | DeleteMedia

# Commands to one batch or comparison, decided in `batch.py`.


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item of a batch: its job, submitted in the same commit, or the reason why it was rejected.

    `instead_of` is the item's job when the decision to run it again was made.
    """

    index: int
    template: str | None
    job_id: UUID | None
    problem: ItemProblem | None = None
    instead_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """Open a batch of jobs."""

    owner: str
    kind: Literal["batch", "comparison"]
    name: str
    items: tuple[NewItem, ...]
    now: datetime
    collection: str | None = None
    base: str | None = None
    prompt: str | None = None
    seed: int | None = None
    request_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RunItemsAgain:
    """Give these items new jobs, which are submitted in the same commit."""

    items: tuple[NewItem, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class RenameBatch:
    """Rename the batch."""

    name: str
    now: datetime


@dataclass(frozen=True, slots=True)
class PreferAsset:
    """Prefer one asset over another of a different item. The jobs made these assets; None if an asset has none."""

    winner: UUID
    loser: UUID
    blind: bool
    now: datetime
    winner_job: UUID | None = None
    loser_job: UUID | None = None


BatchCommand = OpenBatch | RunItemsAgain | RenameBatch | PreferAsset

# Commands to one saved prompt, decided in `prompt.py`.


@dataclass(frozen=True, slots=True)
class SavePrompt:
    """Save a prompt."""

    owner: str
    title: str
    prompt: str
    negative_prompt: str | None
    model: str
    job_type: str | None
    task: Task
    tags: tuple[str, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class EditPrompt:
    """Change the fields that are not None; an empty text removes `negative_prompt`.

    `model`, `job_type` and `task` go together: if `model` is given, all three are replaced.
    """

    now: datetime
    title: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    job_type: str | None = None
    task: Task | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeletePrompt:
    """Delete the saved prompt."""

    now: datetime


PromptCommand = SavePrompt | EditPrompt | DeletePrompt

# Commands to a pool or worker, decided in `fleet.py`.


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop handing out jobs; running jobs continue."""

    name: str
    now: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Like `Pause`, in order to empty a pool or switch off a worker."""

    name: str
    now: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Hand out jobs again."""

    name: str
    now: datetime
    reason: str | None = None


FleetCommand = Pause | Drain | Resume
