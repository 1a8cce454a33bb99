"""Every event of the ledger. Past tense and frozen; ids, versions, times and actors are in the envelope.

A released event class never changes: a new shape is a new class under a new version, with an upcaster in `codec.py`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.recipes.recipe import Kind, ParamValue, Recipe, Task

Attempt = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
WARNING_CHARACTERS_MAX = 1_000
"""Maximum characters of a warning."""

MediaKind = Literal["image", "video", "audio"]


class Event(BaseModel):
    """An event. Frozen and complete: an unknown field means a damaged ledger and is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorClass(StrEnum):
    """Why work failed; input of the retry policy."""

    OUT_OF_MEMORY = "out_of_memory"
    TRANSIENT = "transient"
    INVALID_INPUT = "invalid_input"
    MODEL_UNAVAILABLE = "model_unavailable"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"


class ErrorContext(BaseModel):
    """How and where an error happened, for debugging. Bounded; never contains a secret.

    `exception` is the class with its module, `stack` its innermost frames, the innermost last; `versions` are those of
    the worker's libraries and of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exception: str
    stack: str
    worker: str
    versions: dict[str, str]
    at: datetime


class Failure(BaseModel):
    """The cause of a failure, for people and for the retry policy. Never contains a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_class: ErrorClass
    message: str
    context: ErrorContext | None = None


# Job


class JobQueued(Event):
    """A job was accepted; its N assets are reserved in the same commit.

    `pool` names the workers that can run it. `request_sha256` identifies a repeated idempotent request. `parent_id` is
    the job that this one retries, extends or took its inputs from. `title` is the initial title of its assets. A job
    that has not started at `deadline` is aborted. `adjusted` holds the requested parameters that were changed to a
    value that the model supports. `negative_prompt_by` says who wrote the negative prompt, `negative_prompt_error` why
    the rule made none. `expected_s` is seconds for the whole job on a common GPU: the mean of the catalog's minimum and
    maximum, times the quantity, in proportion to steps, size and frames.
    """

    owner: str
    recipe: Recipe
    pool: str
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    batch_id: UUID | None = None
    parent_id: UUID | None = None
    tags: tuple[str, ...] = ()
    request_sha256: str | None = None
    deadline: datetime | None = None
    adjusted: dict[str, ParamValue] = Field(default_factory=dict)
    negative_prompt_by: Literal["owner", "rule"] | None = None
    negative_prompt_error: str | None = None
    expected_s: Annotated[float, Field(gt=0)] | None = None
    title: str | None = None


class JobStarted(Event):
    """A worker took the job; reports of any other attempt are refused from now on."""

    attempt: Attempt
    worker: str


class JobPromptEnhanced(Event):
    """The prompt was enhanced before the first image; every later attempt renders the enhanced one.

    `enhancer` names the model and its revision, or the rules.
    """

    attempt: Attempt
    original: str
    enhanced: str
    enhancer: str


class JobMemoryLowered(Event):
    """Memory ran out: the attempt continues with this smaller memory profile. `error` says what did not fit."""

    attempt: Attempt
    profile: str
    error: str


class JobHandedOver(Event):
    """A provider accepted one output under its own id. Later attempts ask for that id and never pay twice."""

    attempt: Attempt
    index: Annotated[int, Field(ge=0)]
    provider: str
    provider_id: str


class JobWarned(Event):
    """Part of the request has no effect in this attempt: words that the model does not read, a sound, a parameter.

    `code` is stable, `detail` is a sentence for the owner and names the part. A job records each warning once.
    """

    attempt: Attempt
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    detail: Annotated[str, Field(min_length=1, max_length=WARNING_CHARACTERS_MAX)]


class RequeueReason(StrEnum):
    """Why an attempt ended without ending the job."""

    FAILED = "failed"
    WORKER_LOST = "worker_lost"
    WORKER_STOPPING = "worker_stopping"


class JobRequeued(Event):
    """The attempt is over and the job waits again; no worker takes it before `not_before`."""

    attempt: Attempt
    reason: RequeueReason
    error: Failure | None = None
    not_before: datetime


class JobCancelRequested(Event):
    """The owner canceled the job while it ran; the worker stops between steps."""

    attempt: Attempt


class JobReprioritized(Event):
    """An operator changed the priority; jobs of a higher priority are handed out first."""

    priority: Annotated[int, Field(ge=-10, le=10)]


class JobSucceeded(Event):
    """Every asset is completed."""


class JobPartiallySucceeded(Event):
    """Some assets are completed, the others failed."""

    completed: Annotated[int, Field(ge=1)]
    failed: Annotated[int, Field(ge=1)]


class JobFailed(Event):
    """No asset was completed."""

    error: Failure


class JobCanceled(Event):
    """The job was canceled; assets completed before stay."""


class JobAborted(Event):
    """The deadline passed before a worker started the job."""


# Asset


class AssetReserved(Event):
    """An output to be made: its index 0 … N-1, seed and file path; `title` and `tags` are copied from its job."""

    owner: str
    job_id: UUID
    index: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]
    kind: Kind
    bucket: str
    path: str
    title: str | None = None
    tags: tuple[str, ...] = ()


class AssetCompleted(Event):
    """The file exists, with this hash. `bytes` is its size; `render_ms` and `store_ms` are wall milliseconds.

    `pixels_sha256` covers only the decoded pixels; equal values mean that two renderings of a recipe are the same.
    `frames` and `fps` (frames a second) are for a video. `peak_memory_bytes` is the worker's peak memory until this
    output was rendered: on a GPU, memory allocated by torch since the attempt began; elsewhere, the resident set of the
    worker's process since it started.
    """

    attempt: Attempt
    sha256: Sha256
    pixels_sha256: Sha256
    media_type: str
    bytes: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    render_ms: Annotated[int, Field(ge=0)]
    store_ms: Annotated[int, Field(ge=0)]
    worker_versions: dict[str, str]
    peak_memory_bytes: Annotated[int, Field(ge=1)] | None = None


class AssetFailed(Event):
    """The asset failed and has no file. `attempt` is the last attempt."""

    attempt: Attempt
    error: Failure


class AssetCanceled(Event):
    """The asset has no file: the job was canceled or its deadline passed."""


class AssetThumbnailed(Event):
    """A thumbnail of the file exists at `path` in the object store: a WebP; of a video, a frame of its first half.

    `bytes` is its size; `width` and `height` are the thumbnail's, in pixels.
    """

    sha256: Sha256
    media_type: Literal["image/webp"] = "image/webp"
    bytes: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    path: str


class AssetRated(Event):
    """A rating, 1 … 5; a later one replaces it, both stay in history."""

    score: Annotated[int, Field(ge=1, le=5)]


class AssetTitled(Event):
    """A title given by the owner; null removes it."""

    title: str | None


class AssetTagged(Event):
    """The complete set of tags, sorted."""

    tags: tuple[str, ...]


class AssetSaved(Event):
    """The asset was saved."""


class AssetUnsaved(Event):
    """The asset is no longer saved."""


class AssetDismissed(Event):
    """The asset was removed from the workspace."""


class AssetTrashed(Event):
    """The asset is in the trash and leaves workspace and library; its file stays."""


class AssetRestored(Event):
    """The asset was restored from the trash."""


class AssetPurged(Event):
    """The asset was permanently deleted from the trash with its file and thumbnail. Its metadata stays."""


# Media


class MediaUploaded(Event):
    """The owner uploaded a file with this hash; it was decoded completely before it was accepted.

    `bytes` is its size; `width` and `height` are pixels, upright; `fps` is frames a second. Values that do not apply
    are null: an image has no frames, a sound no width. `path` is in the object store.
    """

    owner: str
    kind: MediaKind
    media_type: str
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    duration_s: Annotated[float, Field(gt=0)] | None = None
    path: str


class MediaUsed(Event):
    """A job used the upload for the first time, in the commit that queues the job. It can no longer be deleted."""

    job_id: UUID


class MediaDeleted(Event):
    """The owner deleted the upload, which no job had used. Its file is deleted."""


# Batch


class ItemProblem(BaseModel):
    """Why an item of a batch was rejected. `problems` are paths in the item's body, each with a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    detail: str
    problems: tuple[tuple[str, str], ...] = ()


class BatchOpened(Event):
    """Jobs were submitted together: templates of a batch, or variants of a comparison (one prompt, one seed).

    `base` is the source (`media:ID`) of the image that every item starts from. `prompt` and `seed` are set for a
    comparison. Its `batch.item_added` events follow in the same commit, with the jobs of the accepted items.
    """

    owner: str
    kind: Literal["batch", "comparison"]
    name: str
    collection: str | None = None
    base: str | None = None
    prompt: str | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    request_sha256: str | None = None


class BatchItemAdded(Event):
    """An item of a batch: its job, queued in the same commit, or the reason why it was rejected.

    If an index appears again, the item ran again and this job replaces the earlier one.
    """

    index: Annotated[int, Field(ge=0)]
    template: str | None = None
    job_id: UUID | None = None
    problem: ItemProblem | None = None


class BatchRenamed(Event):
    """The batch was renamed."""

    name: str


class BatchPreferred(Event):
    """The owner prefers `winner` of two assets of different items; for each pair, the latest preference counts.

    `blind`: the owner did not know which model or settings made which.
    """

    winner: UUID
    loser: UUID
    blind: bool = False


# Prompt


class PromptSaved(Event):
    """A prompt was saved. `task` follows from the job type if one is given, else from the model."""

    owner: str
    title: str
    prompt: str
    negative_prompt: str | None = None
    model: str
    job_type: str | None = None
    task: Task
    tags: tuple[str, ...] = ()


class PromptEdited(Event):
    """The prompt was edited; the event holds all its fields."""

    title: str
    prompt: str
    negative_prompt: str | None = None
    model: str
    job_type: str | None = None
    task: Task
    tags: tuple[str, ...] = ()


class PromptDeleted(Event):
    """The prompt was deleted."""


# Fleet

Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
"""An operator's reason for a hold or release."""

PoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
WorkerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class PoolPaused(Event):
    """The pool's jobs are no longer handed out or started. Running jobs continue; new jobs are accepted and wait."""

    pool: PoolName
    reason: Reason | None = None


class PoolDrained(Event):
    """Like paused, in order to empty the pool: it is drained once its last running job has ended."""

    pool: PoolName
    reason: Reason | None = None


class PoolResumed(Event):
    """The pool's jobs are handed out again."""

    pool: PoolName
    reason: Reason | None = None


class WorkerPaused(Event):
    """The worker takes no further jobs, even after a restart under the same name. Its running job continues."""

    worker: WorkerName
    reason: Reason | None = None


class WorkerDrained(Event):
    """Like paused, in order to switch the worker off: it is drained once its running job has ended."""

    worker: WorkerName
    reason: Reason | None = None


class WorkerResumed(Event):
    """The worker takes jobs again."""

    worker: WorkerName
    reason: Reason | None = None


# Enhancement


class EnhancementMade(Event):
    """A prompt was enhanced for a job type without a job. `enhancer` is as in `JobPromptEnhanced`."""

    owner: str
    job_type: str
    original: str
    enhanced: str
    enhancer: str


# The installation


class UserKeyAdded(Event):
    """An owner received an API key. `sha256` is the hash of the key; the key itself is not stored."""

    name: str
    key_id: UUID
    sha256: Sha256


class UserKeyRevoked(Event):
    """The key was revoked. Restoring an older backup does not make it valid again."""

    name: str
    key_id: UUID


class LedgerRestored(Event):
    """Postgres was restored from an older backup; the event says what happened to the events that it lost.

    After `shared_position` this epoch may hold other events than the one before. Of the `lost` events, `taken_back` are
    in the ledger again, at the same positions or new ones; `left_out` are only in a file.
    """

    epoch: UUID
    shared_position: Annotated[int, Field(ge=0)]
    lost: Annotated[int, Field(ge=0)]
    taken_back: Annotated[int, Field(ge=0)]
    left_out: Annotated[int, Field(ge=0)]
    how: Literal["taken_back", "merged", "discarded", "declared"]


JobEnding = JobSucceeded | JobPartiallySucceeded | JobFailed | JobCanceled | JobAborted
JobNote = JobPromptEnhanced | JobMemoryLowered | JobHandedOver | JobWarned
"""Notes that a worker records about a running attempt."""
JobEvent = JobQueued | JobStarted | JobNote | JobRequeued | JobCancelRequested | JobReprioritized | JobEnding
AssetEnding = AssetCompleted | AssetFailed | AssetCanceled
AssetEvent = (
    AssetReserved
    | AssetEnding
    | AssetThumbnailed
    | AssetRated
    | AssetTitled
    | AssetTagged
    | AssetSaved
    | AssetUnsaved
    | AssetDismissed
    | AssetTrashed
    | AssetRestored
    | AssetPurged
)
MediaEvent = MediaUploaded | MediaUsed | MediaDeleted
BatchEvent = BatchOpened | BatchItemAdded | BatchRenamed | BatchPreferred
UserEvent = UserKeyAdded | UserKeyRevoked
PoolEvent = PoolPaused | PoolDrained | PoolResumed
WorkerEvent = WorkerPaused | WorkerDrained | WorkerResumed
PromptEvent = PromptSaved | PromptEdited | PromptDeleted
