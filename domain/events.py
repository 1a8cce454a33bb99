"""Every fact the ledger can hold. Past tense, frozen; ids, versions, times and actors are the envelope's.

A released event class never changes: a new shape is a new class under a new version, with an upcaster in `codec.py`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.recipe import Kind, ParamValue, Recipe, Task

Attempt = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
WARNING_CHARACTERS_MAX = 1_000
"""Longest sentence of a warning, in characters."""

MediaKind = Literal["image", "video", "audio"]


class Event(BaseModel):
    """A fact. Frozen, and complete: an unknown field is a damaged ledger, not something to ignore."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorClass(StrEnum):
    """Why work failed; the retry policy decides by it."""

    OUT_OF_MEMORY = "out_of_memory"
    TRANSIENT = "transient"
    INVALID_INPUT = "invalid_input"
    MODEL_UNAVAILABLE = "model_unavailable"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"


class ErrorContext(BaseModel):
    """How and where an error happened, for whoever has to mend it. Bounded; never holds a secret.

    `exception` is the class with its module, `stack` its innermost frames, the last one last; `versions` are those of
    the worker's libraries and of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exception: str
    stack: str
    worker: str
    versions: dict[str, str]
    at: datetime


class Failure(BaseModel):
    """What went wrong, for a person and for the retry policy. Never holds a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_class: ErrorClass
    message: str
    context: ErrorContext | None = None


# Job


class JobQueued(Event):
    """A job was accepted; its N assets are reserved in the same commit.

    `pool` names the workers that can run it. `request_sha256` recognises a repeat of an idempotent request.
    `parent_id` is the job whose outputs this one runs again, or goes on from, or whose inputs it took over. `title` is
    what its assets are called until their owner calls them otherwise. `deadline`: not started by then, the job is
    aborted. `adjusted` holds parameters as they were asked for where the model takes only a value beside it.
    `negative_prompt_by` says whose it is, `negative_prompt_error` why the rule made none. `expected_s` is seconds for
    the whole job on a common GPU, as the catalog has it: the mean of least and most, times the quantity.
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
    """The prompt was made richer before the first image; every later attempt renders this one.

    `enhancer` names who did it: a model with its revision, or the rules.
    """

    attempt: Attempt
    original: str
    enhanced: str
    enhancer: str


class JobMemoryLowered(Event):
    """Memory ran out: the attempt goes on with this smaller memory profile. `error` is what did not fit."""

    attempt: Attempt
    profile: str
    error: str


class JobHandedOver(Event):
    """A provider took over one output, under its own id: whoever goes on asks for that, and never pays twice."""

    attempt: Attempt
    index: Annotated[int, Field(ge=0)]
    provider: str
    provider_id: str


class JobWarned(Event):
    """The attempt loses something that was asked for: words that the model does not read, a sound, a parameter.

    `code` is stable, `detail` is a sentence for the owner and names what is lost. A job says each warning once.
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
    """The attempt is over and the job waits again; nobody takes it before `not_before`."""

    attempt: Attempt
    reason: RequeueReason
    error: Failure | None = None
    not_before: datetime


class JobCancelRequested(Event):
    """The owner wants it stopped while a worker has it; the worker stops between steps."""

    attempt: Attempt


class JobReprioritized(Event):
    """An operator changed its priority; who waits at a higher one is handed out first."""

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
    """Stopped on request; what was completed before stays."""


class JobAborted(Event):
    """The deadline passed before a worker took it."""


# Asset


class AssetReserved(Event):
    """An output the job owes: index 0 … N-1, its seed, where its file goes; `title` and `tags` as its job has them."""

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

    `pixels_sha256` is that of the decoded pixels alone, which says whether two renderings of one recipe are the same.
    `frames` and `fps` (frames a second) are a video's. `peak_memory_bytes` is the most memory that the worker used
    until this output was rendered: on a GPU what torch had allocated there since the attempt began, elsewhere the
    resident set of the worker's process since that process began.
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
    """There will be no file. `attempt` is the one that gave up."""

    attempt: Attempt
    error: Failure


class AssetCanceled(Event):
    """There will be no file, on request or because the deadline passed."""


class AssetThumbnailed(Event):
    """A small WebP of the file exists at `path` in the object store: of a video, of one frame of its first half.

    `bytes` is its size; `width` and `height` are its own, in pixels.
    """

    sha256: Sha256
    media_type: Literal["image/webp"] = "image/webp"
    bytes: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    path: str


class AssetRated(Event):
    """A quick rating, 1 … 5; a later one replaces it, both stay in history."""

    score: Annotated[int, Field(ge=1, le=5)]


class AssetTitled(Event):
    """A name given by the owner; null takes it away."""

    title: str | None


class AssetTagged(Event):
    """The whole set of tags, sorted."""

    tags: tuple[str, ...]


class AssetSaved(Event):
    """Kept."""


class AssetUnsaved(Event):
    """No longer kept."""


class AssetDismissed(Event):
    """Looked at: it leaves the workspace."""


class AssetTrashed(Event):
    """In the trash: it leaves workspace and library; its file stays."""


class AssetRestored(Event):
    """Back from the trash."""


class AssetPurged(Event):
    """Deleted for good, out of the trash: its file and its thumbnail go. What is known of it stays."""


# Media


class MediaUploaded(Event):
    """Its owner brought a file, with this hash; it was decoded to its end before it was accepted.

    `bytes` is its size; `width` and `height` are pixels, upright; `fps` is frames a second. Null stands for what such a
    file has none of: a picture has no frames, a sound no width. `path` is in the object store.
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
    """For the first time a job starts from it, in the commit that queues this job: from now on it is kept."""

    job_id: UUID


class MediaDeleted(Event):
    """Its owner does not want it any more, and no job ever started from it. Its file goes."""


# Batch


class ItemProblem(BaseModel):
    """Why an item of a batch was not accepted. `problems` are paths in the item's body, each with a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    detail: str
    problems: tuple[tuple[str, str], ...] = ()


class BatchOpened(Event):
    """Jobs were submitted together: templates of a batch, or variants of a comparison (one prompt, one seed).

    `base` is the source (`media:ID`) of the picture that every item starts from. `prompt` and `seed` are those of a
    comparison. Its `batch.item_added` follow in the same commit, with the jobs of those items that were accepted.
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
    """What became of an item: its job, queued in the same commit, or why there is none.

    The same index again: the item runs again, and this job stands for it from now on.
    """

    index: Annotated[int, Field(ge=0)]
    template: str | None = None
    job_id: UUID | None = None
    problem: ItemProblem | None = None


class BatchRenamed(Event):
    """It is called otherwise from now on."""

    name: str


class BatchPreferred(Event):
    """Of two assets of different items the owner likes `winner` more; of two preferences on one pair the later counts.

    `blind`: without knowing which model or settings made which.
    """

    winner: UUID
    loser: UUID
    blind: bool = False


# Prompt


class PromptSaved(Event):
    """A prompt worth keeping. `task` follows from the model, or from the job type where one is named."""

    owner: str
    title: str
    prompt: str
    negative_prompt: str | None = None
    model: str
    job_type: str | None = None
    task: Task
    tags: tuple[str, ...] = ()


class PromptEdited(Event):
    """All of it, as it is from now on."""

    title: str
    prompt: str
    negative_prompt: str | None = None
    model: str
    job_type: str | None = None
    task: Task
    tags: tuple[str, ...] = ()


class PromptDeleted(Event):
    """Kept no longer."""


# Fleet

Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
"""Why an operator held or released something, in the operator's words."""

PoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
WorkerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class PoolPaused(Event):
    """No job of the pool is handed out or started from now on. What runs goes on; jobs are still accepted, and wait."""

    pool: PoolName
    reason: Reason | None = None


class PoolDrained(Event):
    """As paused, to be left empty: the pool is drained once its last running job has ended."""

    pool: PoolName
    reason: Reason | None = None


class PoolResumed(Event):
    """Its jobs are handed out again."""

    pool: PoolName
    reason: Reason | None = None


class WorkerPaused(Event):
    """It takes no further job from now on, also after a restart under the same name. What it has in hand goes on."""

    worker: WorkerName
    reason: Reason | None = None


class WorkerDrained(Event):
    """As paused, to be switched off: it is drained once the job in its hand has ended."""

    worker: WorkerName
    reason: Reason | None = None


class WorkerResumed(Event):
    """It takes jobs again."""

    worker: WorkerName
    reason: Reason | None = None


# Enhancement


class EnhancementMade(Event):
    """Somebody asked for a richer prompt, for a job type, without a job. `enhancer` is as in `JobPromptEnhanced`."""

    owner: str
    job_type: str
    original: str
    enhanced: str
    enhancer: str


# The installation


class UserKeyAdded(Event):
    """An owner has an API key from now on. `sha256` is all that is kept of the key."""

    name: str
    key_id: UUID
    sha256: Sha256


class UserKeyRevoked(Event):
    """That key works no more. No older backup makes it work again."""

    name: str
    key_id: UUID


class LedgerRestored(Event):
    """Postgres was restored from an older backup, and this is what became of the events that it had lost.

    From the position after `shared_position` on this epoch may hold other events than the one before. Of the `lost`
    ones, so many are in the ledger again, at their positions or at new ones; `left_out` are in a file alone.
    """

    epoch: UUID
    shared_position: Annotated[int, Field(ge=0)]
    lost: Annotated[int, Field(ge=0)]
    taken_back: Annotated[int, Field(ge=0)]
    left_out: Annotated[int, Field(ge=0)]
    how: Literal["taken_back", "merged", "discarded", "declared"]


JobEnding = JobSucceeded | JobPartiallySucceeded | JobFailed | JobCanceled | JobAborted
JobNote = JobPromptEnhanced | JobMemoryLowered | JobHandedOver | JobWarned
"""What is worth keeping of an attempt while it runs."""
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
