"""The JSON documents as API.md fixes them, for OpenAPI. `documents.py` builds them; a test holds both together."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.recipe import ParamValue, Reference

ItemT = TypeVar("ItemT")

JobStatus = Literal["queued", "processing", "succeeded", "partially_succeeded", "failed", "canceled", "aborted"]
ItemStatus = Literal[JobStatus, "rejected"]
AssetStatus = Literal["reserved", "completed", "failed", "canceled", "purged"]
KindName = Literal["image", "video"]


class Document(BaseModel):
    """An answer: complete, and without anything else."""

    model_config = ConfigDict(extra="forbid")


class Page(Document, Generic[ItemT]):
    """A list. `next` is the cursor of the following page; null on the last."""

    results: list[ItemT]
    next: str | None


class FailureDocument(Document):
    """Why work failed."""

    error_class: str
    message: str


class Asset(Document):
    """One expected output of a job. `url` is null until it is completed, `thumbnail_url` until soon after.

    `purged`: it was completed, and deleted for good; what is known of the file stays, `url` is null.
    """

    id: UUID
    job_id: UUID
    index: int
    status: AssetStatus
    kind: KindName
    seed: int
    url: str | None
    thumbnail_url: str | None
    media_type: str | None
    width: int | None
    height: int | None
    bytes: int | None
    sha256: str | None
    rating: int | None
    saved: bool
    title: str | None
    tags: list[str]
    error: FailureDocument | None
    completed_at: datetime | None


class ListedAsset(Asset):
    """An asset outside of its job's document, with the job's facts beside it."""

    prompt: str
    job_type: str
    model: str
    task: str
    batch_id: UUID | None


class Steps(Document):
    """Denoising steps done, over all pipeline calls of the attempt."""

    step: int
    total: int


class Place(Document):
    """The place among the waiting jobs of the pool, from 1, and in how many seconds this one is finished.

    `position` follows the order of dispatch: priority, then owners in turn, then first come. Deep in a long queue it is
    an estimate. `eta_s` is the middle (p50), and nine times of ten it is finished within `eta_p90_s`: by what each
    worker of the pool still has to do, what stands ahead, and the times of jobs that ended, else by the catalog. Both
    are null while nobody can tell: `waits_for` says why, `waits_since` since when, `detail` in a sentence. `workers`:
    how many could take the job.
    """

    position: int
    eta_s: float | None
    eta_p90_s: float | None
    workers: int
    waits_for: Literal["no_worker", "pool_paused", "next_attempt"] | None
    waits_since: datetime | None
    detail: str | None


class JobUrls(Document):
    """Where to go from here."""

    get: str
    cancel: str
    history: str
    inputs: str


class Caution(Document):
    """Something to know about a job that is accepted all the same. `code` is stable."""

    code: str
    detail: str


class Job(Document):
    """A request to generate, with its assets."""

    id: UUID
    status: JobStatus
    job_type: str
    model: str
    task: str
    prompt: str
    enhanced_prompt: str | None = Field(description="What a worker made of the prompt, and rendered in its place.")
    negative_prompt: str | None
    params: dict[str, Any]
    quantity: int
    seed: int
    references: list[Reference]
    media: dict[str, str]
    warnings: list[Caution]
    batch_id: UUID | None
    parent_id: UUID | None = Field(
        description="The job whose failed outputs this runs again, whose inputs it took over, or whose video goes on."
    )
    priority: int
    tags: list[str]
    attempt: int
    progress: Steps | None
    queue: Place | None
    error: FailureDocument | None
    assets: list[Asset]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: JobUrls


class AnybodysJob(Job):
    """A job as administrators see it: whose it is, its pool, and the worker that has it."""

    owner: str
    pool: str
    worker: str | None


class JobPriority(Document):
    """The priority that a job has now."""

    id: UUID
    owner: str
    priority: int


class Condition(Document):
    """A parameter, and the values under which another one means something."""

    name: str
    values: list[ParamValue]


class InputValue(Document):
    """A value of a job: `seed`, `quantity`, `negative_prompt` or a parameter. All of `depends_on` hold."""

    name: str
    value: ParamValue
    depends_on: list[Condition]


class SkippedInput(Document):
    """What a job had and a new one cannot have: a name as in `inputs`, `media.image` or `references.0`."""

    name: str
    reason: str


class Inputs(Document):
    """What to fill a form with to run a job again; submitted as it is, it is accepted.

    Parents stand before what depends on them; a parameter that is not listed has its default. Null is what the catalog
    has no more, or what cannot be read. Without `job_type`, `model` and `task` say what can run it.
    """

    job_id: UUID
    job_type: str | None
    model: str | None
    task: str | None
    prompt: str | None
    inputs: list[InputValue]
    media: dict[str, str]
    references: list[Reference]
    skipped: list[SkippedInput]
    warnings: list[Caution]


class CancelResult(Document):
    """What canceling led to."""

    result: Literal["canceled", "cancel_requested", "already_finished"]


class Upload(Document):
    """A file that jobs can start from: `media:ID` in `references` and `media`. A sound has no width and height."""

    id: UUID
    kind: Literal["image", "video", "audio"]
    media_type: str
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    url: str


class Enhancement(Document):
    """A prompt made richer. `enhancer` is a language model with its revision, or the rules."""

    id: UUID
    job_type: str
    original: str
    enhanced: str
    enhancer: str


class Preferences(Document):
    """How often it was preferred to something else, and something else to it."""

    won: int
    lost: int


class Score(Document):
    """What people think of a prompt, model or job type. `value` is its name, for a prompt the SHA-256 of its text.

    `jobs` counts its uses, `count` the assets that are rated. `mean` is theirs; `score` is the Bayesian average, which
    stays near 3 while there are few. `distribution` says how many have each rating. `strength` is that of Bradley and
    Terry: of two, `a` is preferred with probability a / (a + b); null without a preference.
    """

    by: Literal["prompt", "model", "job_type"]
    value: str
    prompt: str | None
    jobs: int
    count: int
    mean: float | None
    distribution: dict[str, int]
    score: float
    preferences: Preferences
    strength: float | None
    formula: int


class SavedPrompt(Document):
    """A prompt worth keeping. `task` follows from the job type, or from the model.

    `usage_count` says how many jobs have exactly this prompt. `mean_score` and `score` come from their assets' ratings.
    """

    id: UUID
    title: str
    prompt: str
    negative_prompt: str | None
    model: str
    job_type: str | None
    task: str
    tags: list[str]
    usage_count: int
    mean_score: float | None
    score: float | None
    created_at: datetime
    updated_at: datetime


class HistoryItem(Document):
    """An event. `type` is its stable name without the version."""

    position: int
    stream: UUID
    version: int
    type: str
    at: datetime
    actor: str
    correlation_id: UUID
    causation_id: UUID | None
    data: dict[str, Any]


class ParkedEvent(Document):
    """An event that a view could not take."""

    stream: UUID
    position: int
    reason: str
    parked_at: datetime


class ProjectionState(Document):
    """How far a view has read the ledger. `head` is the ledger's last position, `lag` the events between."""

    name: str
    position: int
    head: int
    lag: int
    parked: list[ParkedEvent]


class RebuiltView(Document):
    """A view that was built anew. `same`: its rows equal those of the view that it replaced."""

    name: str
    position: int
    rows: int
    checksum: str
    same: bool | None
    seconds: float
    events_per_s: int


class QueueState(Document):
    """A pool: its backlog now; waits, throughput and error rate of the jobs that ended within the last hour."""

    pool: str
    backlog: int
    running: int
    oldest_waiting_s: float | None
    wait_mean_s: float | None
    wait_p50_s: float | None
    wait_p90_s: float | None
    throughput_per_h: int
    error_rate: float | None


class HeldBack(Document):
    """An operator holds a pool or a worker back: it takes no further job. `drained`: it is to be left empty."""

    hold: Literal["paused", "drained"]
    reason: str | None
    by: str
    since: datetime


class EmptiedTrash(Document):
    """How many assets were deleted for good, and the size of their files. `more`: some are left; ask again."""

    purged: int
    bytes: int
    more: bool


class WorkerModel(Document):
    """A model that a worker has; `loaded`: its next job begins at once."""

    name: str
    loaded: bool


class WorkerJob(Document):
    """What a worker does, by the ledger. `progress` is what was last heard."""

    id: UUID
    owner: str
    job_type: str
    pool: str
    attempt: int
    progress: Steps | None
    started_at: datetime


class WorkerState(Document):
    """A worker. `state` is `busy`, `idle`, `paused`, `draining`, `drained`, or `away`: unheard of for a whole lease.

    `since`: since when it does that. `pools`, `models` and `device` are what it says of itself; they are empty for one
    that is held back and was never heard of.
    """

    name: str
    state: Literal["busy", "idle", "paused", "draining", "drained", "away"]
    since: datetime | None
    device: str | None
    version: str | None
    pools: list[str]
    models: list[WorkerModel]
    job: WorkerJob | None
    held: HeldBack | None
    started_at: datetime | None
    heard_at: datetime | None


class PoolState(Document):
    """A pool: how many workers could take its next job, how many jobs wait and run, and whether it is held back.

    `state` is `open`, `paused`, `draining`, `drained`, or `no_worker`. `last_seen_at`: when one of its workers was last
    heard of; null when none ever was.
    """

    pool: str
    state: Literal["open", "paused", "draining", "drained", "no_worker"]
    workers: int
    waiting: int
    running: int
    last_seen_at: datetime | None
    held: HeldBack | None


class FleetChange(Document):
    """What was held back or released. `held` is null once it is released."""

    kind: Literal["pool", "worker"]
    name: str
    held: HeldBack | None


class DeadJob(Document):
    """A job of anybody that failed: it was given up after `attempts`, or at once where trying again could not help.

    `quarantined`: it lost two workers, and probably kills them. `retried_as`: the job by which an administrator ran it
    again. What was asked for is its owner's and not shown.
    """

    id: UUID
    owner: str
    job_type: str
    model: str
    pool: str
    quantity: int
    attempts: int
    error: FailureDocument
    quarantined: bool
    created_at: datetime
    finished_at: datetime
    retried_as: UUID | None


class RetriedJob(Document):
    """The job `id` runs the lost outputs of `parent_id` again, for the same owner."""

    id: UUID
    parent_id: UUID
    owner: str


class PerformanceState(Document):
    """The jobs of a job type on a model that ended within the last hour; seconds are means over whole jobs.

    `expected_s` is the catalog's, `actual_s` from the last start to the end. A ratio is actual over expected, of jobs
    that succeeded in one attempt. `peak_memory_bytes` is the most that a worker used: see `asset.completed`.
    """

    job_type: str
    model: str
    jobs: int
    expected_s: float | None
    actual_s: float | None
    ratio_mean: float | None
    ratio_p50: float | None
    ratio_p90: float | None
    peak_memory_bytes: int | None


class ModelEntry(Document):
    """A model of the catalog; `width` and `height` in pixels. `draws`: what it can draw, if not everything."""

    name: str
    label: str
    pool: str
    tasks: list[str]
    width: int
    height: int
    references: list[str]
    draws: str | None


class JobTypeEntry(Document):
    """A preset of model and quality. `parameters` is JSON Schema; `expected_s` is least and most for an asset.

    `task` is what it does with a prompt alone, `tasks` what it does with references and media besides.
    """

    name: str
    label: str
    model: str
    task: str
    tasks: list[str]
    kind: KindName
    bucket: str
    extension: str
    quantities: list[int]
    expected_s: tuple[float, float]
    references: list[str]
    enhance: bool
    parameters: dict[str, Any]


class Group(Document):
    """The names of all entries for a task."""

    task: str
    names: list[str]


class CatalogPage(Page[ItemT], Generic[ItemT]):
    """All entries, and their names by task."""

    groups: list[Group]


class FieldProblemDocument(Document):
    """A bad field: its path in the body, and what is allowed."""

    path: str
    detail: str


class Problem(Document):
    """RFC 9457. `code` is stable."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblemDocument] = Field(default_factory=list)


class SavedItem(Document):
    """An item whose job was accepted."""

    index: int
    template: str | None
    saved: Literal[True]
    job_id: UUID


class RejectedItem(Document):
    """An item that was not accepted, or does not run again. `error` says why; its paths are in the item's body."""

    index: int
    template: str | None
    saved: Literal[False]
    error: Problem


class Item(SavedItem):
    """An item of a batch. `jobs`: all that made it; the last one counts. `assets`: what earlier ones made, and its."""

    status: JobStatus
    jobs: list[UUID]
    assets: list[ListedAsset]


class ItemWithoutJob(RejectedItem):
    """An item of a batch that was not accepted."""

    status: Literal["rejected"]


class BatchUrls(Document):
    """Where to go from here."""

    get: str
    cancel: str
    retry: str


class BatchSummary(Document):
    """Jobs that were submitted together. `counts`: how many items have each status. `base`: what all start from."""

    id: UUID
    kind: Literal["batch", "comparison"]
    name: str
    collection: str | None
    base: str | None
    prompt: str | None = Field(description="Of a comparison.")
    seed: int | None = Field(description="Of a comparison: that of the first output of each variant.")
    counts: dict[ItemStatus, int]
    created_at: datetime
    urls: BatchUrls


class BatchAccepted(BatchSummary):
    """A batch that was just opened: each item with its job, or why there is none."""

    items: list[SavedItem | RejectedItem]


class Preference(Document):
    """One asset over another one. The indexes are those of their items."""

    winner: UUID
    loser: UUID
    winner_index: int
    loser_index: int
    blind: bool


class DatedPreference(Preference):
    """The latest preference of a pair."""

    at: datetime


class Batch(BatchSummary):
    """A batch with its items by index, and the latest preference of each pair of a comparison."""

    items: list[Item | ItemWithoutJob]
    preferences: list[DatedPreference]


class BatchAgain(Document):
    """What runs again: the items that were asked for, or those that had lost outputs."""

    id: UUID
    items: list[SavedItem | RejectedItem]


class BatchCanceled(Document):
    """What canceling led to: how many jobs each way. The jobs of `cancel_requested` stop between steps."""

    canceled: int
    cancel_requested: int
    already_finished: int


class SignInLink(Document):
    """A link that signs one browser in, once."""

    url: str = Field(description="To be opened in a browser.")
    expires_at: datetime


class Alive(Document):
    """The process serves."""

    status: Literal["alive"]


class HealthFinding(Document):
    """Something that an operator has to know. An `error` makes the installation unusable."""

    code: str
    severity: Literal["error", "warning"]
    sentence: str
    remedy: str


class Readiness(Document):
    """Whether the installation can be used, and why not. `findings` is for the administrator alone."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]
    findings: list[HealthFinding] | None = None
