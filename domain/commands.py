"""Every intent. Time comes in as `now`, chance as `jitter`: the deciders are pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from domain.events import AssetCompleted, AssetThumbnailed, Failure, ItemProblem, JobNote, MediaKind
from domain.recipe import Kind, ParamValue, Recipe, Task

# About a job and its assets: decided in `generation.py`.


@dataclass(frozen=True, slots=True)
class Held:
    """What operators hold back at the moment, by name: nothing starts in these pools, nor on these workers."""

    pools: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Accept a job and reserve its assets. `uploads` are the media that it starts from: they are kept from now on."""

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
    """A worker says what is worth keeping of its attempt while it runs."""

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
    """A worker cannot make one asset; its siblings go on."""

    attempt: int
    index: int
    error: Failure
    now: datetime


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """The attempt as a whole failed: try again or give up, as the retry policy says. `jitter` is in [0, 1)."""

    attempt: int
    error: Failure
    jitter: float
    now: datetime


@dataclass(frozen=True, slots=True)
class ReleaseAttempt:
    """The worker stops and gives the job back unharmed; it counts as no failure."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ExpireLease:
    """The worker was not heard of for a whole lease."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    """The worker stopped between steps because cancelling was requested."""

    attempt: int
    now: datetime


@dataclass(frozen=True, slots=True)
class CancelJob:
    """The owner wants the job stopped."""

    now: datetime


@dataclass(frozen=True, slots=True)
class ReprioritizeJob:
    """An operator wants it handed out earlier or later; -10 … 10."""

    priority: int
    now: datetime


@dataclass(frozen=True, slots=True)
class AbortJob:
    """The job's deadline passed before a worker took it."""

    now: datetime


WorkerCommand = NoteOfAttempt | ReportAssetCompleted | ReportAssetFailed | FailAttempt | ReleaseAttempt | ConfirmCancel


@dataclass(frozen=True, slots=True)
class Reported:
    """What a worker says of an attempt: it counts only if that worker has it. `worker` is who sent it, for certain."""

    worker: str
    command: WorkerCommand

    @property
    def attempt(self) -> int:
        """The attempt that the worker believes is current."""
        return self.command.attempt

    @property
    def now(self) -> datetime:
        """When it was reported."""
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

# About one asset: decided in `asset.py`.


@dataclass(frozen=True, slots=True)
class ThumbnailAsset:
    """Its thumbnail was written."""

    thumbnailed: AssetThumbnailed
    now: datetime


@dataclass(frozen=True, slots=True)
class RateAsset:
    """A quick rating, 1 … 5."""

    score: int
    now: datetime


@dataclass(frozen=True, slots=True)
class TitleAsset:
    """Name it; null takes the name away."""

    title: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class TagAsset:
    """Replace its tags."""

    tags: tuple[str, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class SaveAsset:
    """Keep it."""

    now: datetime


@dataclass(frozen=True, slots=True)
class UnsaveAsset:
    """Keep it no longer."""

    now: datetime


@dataclass(frozen=True, slots=True)
class DismissAsset:
    """It was looked at: take it out of the workspace."""

    now: datetime


@dataclass(frozen=True, slots=True)
class TrashAsset:
    """Into the trash."""

    now: datetime


@dataclass(frozen=True, slots=True)
class RestoreAsset:
    """Back from the trash."""

    now: datetime


@dataclass(frozen=True, slots=True)
class PurgeAsset:
    """Delete it for good; it must be in the trash."""

    now: datetime


AssetCommand = (
    ThumbnailAsset
    | RateAsset
    | TitleAsset
    | TagAsset
    | SaveAsset
    | UnsaveAsset
    | DismissAsset
    | TrashAsset
    | RestoreAsset
    | PurgeAsset
)

# About one upload: decided in `media.py`.


@dataclass(frozen=True, slots=True)
class UploadMedia:
    """Accept a file that is stored already; what it is was found by decoding it.

    `stored_at` is its path in the object store; None: where it belongs, whatever comes between.
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
    """A job starts from it, at `path` as its recipe has it; None: wherever it is."""

    job_id: UUID
    now: datetime
    path: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteMedia:
    """Its owner does not want it any more."""

    now: datetime


MediaCommand = UploadMedia | UseMedia | DeleteMedia

# About one batch or comparison: decided in `batch.py`.


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item of a batch: its job, which is submitted in the same commit, or why it was not accepted.

    `instead_of` is the job that stood for the item when it was decided to run it again.
    """

    index: int
    template: str | None
    job_id: UUID | None
    problem: ItemProblem | None = None
    instead_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """Accept jobs together."""

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
    """Other jobs stand for these items from now on; they are submitted in the same commit."""

    items: tuple[NewItem, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class RenameBatch:
    """Call it otherwise."""

    name: str
    now: datetime


@dataclass(frozen=True, slots=True)
class PreferAsset:
    """One asset over another one, of different items. The jobs are those that made them; None: no asset of theirs."""

    winner: UUID
    loser: UUID
    blind: bool
    now: datetime
    winner_job: UUID | None = None
    loser_job: UUID | None = None


BatchCommand = OpenBatch | RunItemsAgain | RenameBatch | PreferAsset

# About one saved prompt: decided in `prompt.py`.


@dataclass(frozen=True, slots=True)
class SavePrompt:
    """Keep a prompt."""

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
    """What is None stays as it is; `negative_prompt` may be taken away with an empty text.

    `model`, `job_type` and `task` go together: where a model is named, all three are as they are named.
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
    """Keep it no longer."""

    now: datetime


PromptCommand = SavePrompt | EditPrompt | DeletePrompt

# About a pool or a worker: decided in `fleet.py`.


@dataclass(frozen=True, slots=True)
class Pause:
    """Hand out nothing more; what runs goes on."""

    name: str
    now: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """The same, to be left empty or switched off."""

    name: str
    now: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on."""

    name: str
    now: datetime
    reason: str | None = None


FleetCommand = Pause | Drain | Resume
