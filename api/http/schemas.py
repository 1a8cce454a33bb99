"""The JSON documents of the API, for OpenAPI. The `documents.py` of each room build them; a test compares both."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.recipes.recipe import ParamValue, Reference
from domain.statuses import AssetStatus, ItemStatus, JobStatus, OutputKind

ItemT = TypeVar("ItemT")


class Document(BaseModel):
    """An answer with exactly these fields."""

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

    `purged`: it was completed, and then permanently deleted; the facts about the file stay, `url` is null.
    """

    id: UUID
    job_id: UUID
    index: int
    status: AssetStatus
    kind: OutputKind
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
    """An asset outside its job's document, with facts of the job."""

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
    """The place among the waiting jobs of the pool, from 1, and the seconds until this one is finished.

    `position` follows the order of dispatch: priority, then owners in turn, then first come. Deep in a long queue it is
    an estimate. `eta_s` is the median (p50), and `eta_p90_s` the 90th percentile. Both follow from the remaining work
    of the pool's workers, the jobs ahead, and the durations of ended jobs, or else from the catalog. Both are null if
    they cannot be estimated: `waits_for` gives the reason, `waits_since` its beginning, `detail` a sentence. `workers`:
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
    """URLs for the next steps."""

    get: str
    cancel: str
    history: str
    inputs: str


class Caution(Document):
    """A warning about an accepted job. `code` is stable."""

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
    """A job as administrators see it: with its owner, its pool, and its current worker."""

    owner: str
    pool: str
    worker: str | None


class JobPriority(Document):
    """The current priority of a job."""

    id: UUID
    owner: str
    priority: int


class Condition(Document):
    """A parameter, and the values under which another one has an effect."""

    name: str
    values: list[ParamValue]


class InputValue(Document):
    """A value of a job: `seed`, `quantity`, `negative_prompt` or a parameter. All conditions of `depends_on` hold."""

    name: str
    value: ParamValue
    depends_on: list[Condition]


class SkippedInput(Document):
    """An input of the old job that a new one cannot have: a name as in `inputs`, `media.image` or `references.0`."""

    name: str
    reason: str


class Inputs(Document):
    """The inputs to fill a form with, to run a job again; submitted unchanged, they are accepted.

    Parents come before the parameters that depend on them; a parameter that is not listed has its default. Null means
    that the catalog no longer has it, or that it cannot be read. Without `job_type`, `model` and `task` say what can
    run it.
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
    """The result of canceling."""

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
    """An enhanced prompt. `enhancer` is a language model with its revision, or the rules."""

    id: UUID
    job_type: str
    original: str
    enhanced: str
    enhancer: str


class Preferences(Document):
    """How often it was preferred, and how often another one was preferred to it."""

    won: int
    lost: int


class Score(Document):
    """The score of a prompt, model or job type. `value` is its name, for a prompt the SHA-256 of its text.

    `jobs` counts its uses, `count` its rated assets. `mean` is the mean rating; `score` is the Bayesian average, which
    stays near 3 while there are few ratings. `distribution` counts the assets by rating. `strength` is that of Bradley
    and Terry: of two, `a` is preferred with probability a / (a + b); null without a preference.
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
    """A saved prompt. `task` follows from the job type, or from the model.

    `usage_count` is the number of jobs with exactly this prompt. `mean_score` and `score` come from the ratings of
    their assets.
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
    """An event that a view could not process."""

    stream: UUID
    position: int
    reason: str
    parked_at: datetime


class ProjectionState(Document):
    """How far a view has read the ledger. `head` is the ledger's last position, `lag` the number of events between."""

    name: str
    position: int
    head: int
    lag: int
    parked: list[ParkedEvent]


class RebuiltView(Document):
    """A view that was built again. `same`: its rows equal those of the view that it replaced."""

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
    """An operator holds a pool or a worker: it takes no further job. `drained`: until it is empty."""

    hold: Literal["paused", "drained"]
    reason: str | None
    by: str
    since: datetime


class EmptiedTrash(Document):
    """The number of permanently deleted assets, and the size of their files. `more`: some are left; ask again."""

    purged: int
    bytes: int
    more: bool


class WorkerModel(Document):
    """A model that a worker has; `loaded`: its next job starts immediately."""

    name: str
    loaded: bool


class WorkerJob(Document):
    """The job that a worker runs, according to the ledger. `progress` is the latest."""

    id: UUID
    owner: str
    job_type: str
    pool: str
    attempt: int
    progress: Steps | None
    started_at: datetime


class WorkerState(Document):
    """A worker. `state` is `busy`, `idle`, `paused`, `draining`, `drained`, or `away`: not heard of for a whole lease.

    `since`: the beginning of this state. `pools`, `models` and `device` come from the worker; they are empty for a
    worker that is held and was never heard of.
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
    """A pool: the workers that could take its next job, its waiting and running jobs, and whether it is held.

    `state` is `open`, `paused`, `draining`, `drained`, or `no_worker`. `last_seen_at`: when one of its workers was last
    heard of; null if none ever was.
    """

    pool: str
    state: Literal["open", "paused", "draining", "drained", "no_worker"]
    workers: int
    waiting: int
    running: int
    last_seen_at: datetime | None
    held: HeldBack | None


class FleetChange(Document):
    """The pool or worker that was held or released. `held` is null after its release."""

    kind: Literal["pool", "worker"]
    name: str
    held: HeldBack | None


class DeadJob(Document):
    """A failed job of any owner: given up after `attempts`, or immediately if another attempt could not help.

    `quarantined`: it lost two workers, and probably kills them. `retried_as`: the job by which an administrator ran it
    again. Its prompt and parameters are private and not shown.
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

    `expected_s` comes from the catalog, `actual_s` is from the last start to the end. A ratio is actual over expected,
    of jobs that succeeded in one attempt. `peak_memory_bytes` is the most that a worker used: see `asset.completed`.
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
    """A model of the catalog; `width` and `height` in pixels. `draws`: its subjects, if it cannot draw everything."""

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

    `task` is its task with only a prompt, `tasks` its tasks with references and media.
    """

    name: str
    label: str
    model: str
    task: str
    tasks: list[str]
    kind: OutputKind
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
    """A bad field: its path in the body, and the allowed values."""

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
    """An accepted item, with its job."""

    index: int
    template: str | None
    saved: Literal[True]
    job_id: UUID


class RejectedItem(Document):
    """An item that was not accepted, or does not run again. `error` gives the reason, with paths in the item's body."""

    index: int
    template: str | None
    saved: Literal[False]
    error: Problem


class Item(SavedItem):
    """An item of a batch.

    `jobs`: all jobs of it, the current one last. `assets`: those of earlier jobs, and its own.
    """

    status: JobStatus
    jobs: list[UUID]
    assets: list[ListedAsset]


class ItemWithoutJob(RejectedItem):
    """A rejected item of a batch."""

    status: Literal["rejected"]


class BatchUrls(Document):
    """URLs for the next steps."""

    get: str
    cancel: str
    retry: str


class BatchSummary(Document):
    """Jobs that were submitted together.

    `counts`: the number of items by status. `base`: the file that all start from.
    """

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
    """A new batch: each item with its job, or why there is none."""

    items: list[SavedItem | RejectedItem]


class Preference(Document):
    """One asset preferred to another one. The indexes are those of their items."""

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
    """The items that run again: the requested ones, or those with lost outputs."""

    id: UUID
    items: list[SavedItem | RejectedItem]


class BatchCanceled(Document):
    """The result of canceling: the number of jobs of each outcome.

    The jobs of `cancel_requested` stop between steps.
    """

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
    """Something that an operator needs to know. An `error` makes the installation unusable."""

    code: str
    severity: Literal["error", "warning"]
    sentence: str
    remedy: str


class Readiness(Document):
    """Whether the installation can be used, and why not. Only the administrator sees `findings`."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]
    findings: list[HealthFinding] | None = None
