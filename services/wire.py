"""What services and workers say to each other over NATS: subjects and messages. Nothing here talks to a broker."""

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from domain.bounds import MESSAGE_CHARACTERS_MAX, OUTPUTS_MAX, shortened, shortened_note
from domain.enhancement import CHARACTERS_MAX
from domain.errors import EventTooLarge, InvalidInput
from domain.events import AssetCompleted, Failure, JobNote
from domain.recipe import Kind, Recipe

WAKE = "wake"
"""Lossy ping after a commit; a 200 ms poll covers a lost one."""

LEDGER_STREAM = "LEDGER"
"""Every event of the ledger, in order: the stream's sequence is the ledger's position."""

WORK_STREAM = "WORK"
"""Work queue: a message leaves it when its worker acks, after the ledger has the end of the attempt."""

REPORTS = "reports.>"
"""Request and reply: workers tell the recorder what happened, each under its own name."""

RECORDERS = "recorders"
"""Queue group of the recorders."""

ANNOUNCEMENTS = "workers.>"
"""Request and reply: each worker says every few seconds that it is there, and hears whether it may take jobs."""

ANNOUNCEMENT_BYTES_MAX = 16_384
"""A larger one is not read."""

PROGRESS = "progress.>"
"""Steps of running jobs, each under the name of its worker."""

CANCEL = b"cancel"
"""The payload of a cancel: what a worker has sent to that subject in answer to its own requests is none."""

HAIL = b"announce"
"""The payload of a hail: announce yourself now, something about you changed."""

ENHANCE = "enhance"
"""Request and reply: the API asks a worker that has a language model for a richer prompt."""

ENHANCERS = "enhancers"
"""Queue group of these workers."""

ENHANCE_S_MAX = 20.0
"""A person waits for the answer: after so long the API goes by the rules, and the worker does not begin any more."""

ATTEMPT_MAX = 2**31 - 1
"""Of a number of an attempt: what a lease can hold."""

Attempt = Annotated[int, Field(ge=1, le=ATTEMPT_MAX)]
Index = Annotated[int, Field(ge=0, lt=OUTPUTS_MAX)]
Said = Annotated[Failure, AfterValidator(shortened)]
"""An error as it is reported: on both sides cut to what an event holds, so that no error is lost for its length."""

Note = Annotated[JobNote, AfterValidator(shortened_note)]

WORKER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
WORKER_NAME_CHARACTERS_MAX = 200
"""Of its NATS user and its own name together."""

NATS_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})

HEARTBEAT_S = 10.0
LEASE_S = 30.0
"""A worker reports every 10 s; unheard of for 30 s, its attempt is over. Figures of DESIGN.md."""


def nats_servers(url: str) -> list[str]:
    """The servers of a NATS URL; several, separated by commas, are a cluster.

    Raises `ValueError` in words of our own: what a library takes for a port may be a piece of a password.
    """
    servers = [server.strip() for server in url.split(",")]
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in NATS_SCHEMES or not parts.hostname:
            raise ValueError("must look like nats://host:4222")
        check_port(parts)
    return servers


def check_port(parts: SplitResult) -> None:
    """Raises `ValueError`, as `nats_servers`."""
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port must be from 0 to 65535; / : @ in a password are written %2F %3A %40") from None


def ledger_subject(owner: str, name: str) -> str:
    """Where an event is broadcast: `ledger.<owner>.<aggregate>.<event>`."""
    return f"ledger.{owner}.{name}"


def work_subject(pool: str, job_id: UUID, attempt: int) -> str:
    """One subject per attempt: the broker itself refuses the same attempt twice."""
    return f"work.{pool}.{job_id}.{attempt}"


def work_filter(pool: str) -> str:
    """What a worker of `pool` pulls."""
    return f"work.{pool}.>"


def work_consumer(pool: str) -> str:
    """The durable consumer that all workers of `pool` share."""
    return f"pool-{pool}"


def worker_name(user: str, name: str) -> str:
    """What the ledger calls a worker: its NATS user, who vouches for it, and what the process calls itself."""
    return f"{user}.{name}"


def user_of(worker: str) -> str:
    """The NATS user of a worker: no other one can send under its name."""
    return worker.partition(".")[0]


def report_subject(worker: str) -> str:
    """Where a worker reports. NATS lets its user alone publish here: the subject says who reports, for certain."""
    return f"reports.{worker}"


def progress_subject(worker: str) -> str:
    """Steps of the job that the worker has; core NATS, never the ledger."""
    return f"progress.{worker}"


def announce_subject(worker: str) -> str:
    """Where a worker says that it is there. NATS lets its user alone publish here."""
    return f"workers.{worker}"


def hail_subject(worker: str) -> str:
    """Tells a worker to announce itself now. It hears this as it hears cancels."""
    return f"cancel.{worker}.announce"


def sender_of(subject: str) -> str:
    """The worker that sent a report, progress or an announcement."""
    return subject.partition(".")[2]


def is_worker_name(worker: str) -> bool:
    """Whether a worker can be called so. NATS vouches for the first part of its name alone."""
    return len(worker) <= WORKER_NAME_CHARACTERS_MAX and WORKER_NAME.fullmatch(worker) is not None


def cancel_subject(worker: str, job_id: UUID) -> str:
    """Tells the worker that has the job to stop; heartbeats carry the same for a lost message."""
    return f"cancel.{worker}.{job_id}"


def cancels_of(worker: str) -> str:
    """What a worker hears of all its jobs."""
    return f"cancel.{worker}.*"


def inbox_prefix(worker: str) -> str:
    """Under which a worker hears answers; NATS lets its user alone listen here."""
    return f"_INBOX.{user_of(worker)}"


class Message(BaseModel):
    """JSON on the wire. Frozen; unknown fields are refused, so that versions that do not fit are noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(Message):
    """An asset that the attempt owes: its index in the job, its seed, its kind, and where its file goes.

    `provider_id` is set where an earlier attempt handed it over to a hosted engine: ask for that, do not pay again.
    """

    index: int
    seed: int
    kind: Kind
    path: str
    provider_id: str | None = None


class WorkOrder(Message):
    """One attempt of a job, complete: a worker needs nothing else. `outputs` holds what is still owed.

    `enhanced_prompt` is what an earlier attempt made of the recipe's prompt.
    """

    job_id: UUID
    owner: str
    attempt: int
    pool: str
    recipe: Recipe
    outputs: tuple[Output, ...] = Field(min_length=1)
    enhanced_prompt: str | None = None


class EnhanceRequest(Message):
    """A prompt to be made richer, for an output of this kind."""

    prompt: str
    kind: Kind


class EnhanceReply(Message):
    """The richer prompt, and who made it: see `domain.events.JobPromptEnhanced`."""

    enhanced: str = Field(min_length=1, max_length=CHARACTERS_MAX, pattern=r"^[^\x00]+$")
    enhancer: str = Field(min_length=1, max_length=MESSAGE_CHARACTERS_MAX, pattern=r"^[^\x00]+$")


class Progress(Message):
    """`step` of `total` denoising steps are done; both count over all pipeline calls of the attempt."""

    job_id: UUID
    attempt: Attempt
    step: int
    total: int


PoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Line = Annotated[str, Field(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A short text without line breaks."""

DurationS = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class AnnouncedModel(Message):
    """A model that a worker has, and whether its next job begins without loading it."""

    name: ModelName
    loaded: bool


class Announcement(Message):
    """What a worker says of itself: from which pools it takes jobs, with which models, on which device.

    `up_s`: seconds since it started. `idle_s`: seconds since it has no job in hand; None while it has one. `leaving`:
    it ends in this moment, as it was told to. Durations, because its clock may be wrong.
    """

    pools: Annotated[tuple[PoolName, ...], Field(max_length=32)]
    models: Annotated[tuple[AnnouncedModel, ...], Field(max_length=64)]
    device: Line
    version: Line
    up_s: DurationS
    idle_s: DurationS | None = None
    leaving: bool = False


class AnnouncementReply(Message):
    """`hold`: an operator paused or drained this worker: it takes no further job until the next answer has none."""

    hold: Literal["paused", "drained"] | None = None
    reason: str | None = None


class Report(Message):
    """Every report names its attempt; the ledger refuses one of an attempt that is not current.

    Who reports is not in it: the subject says that, and NATS vouches for the subject.
    """

    job_id: UUID
    attempt: Attempt


class StartedReport(Report):
    """The worker wants to start; it renders only if this is accepted."""

    kind: Literal["started"] = "started"


class HeartbeatReport(Report):
    """The worker is alive: its lease is renewed."""

    kind: Literal["heartbeat"] = "heartbeat"


class NoteReport(Report):
    """Something worth keeping of the attempt while it runs; the worker goes on once it is accepted."""

    kind: Literal["note"] = "note"
    note: Note


class AssetCompletedReport(Report):
    """The file of one asset is in the object store."""

    kind: Literal["asset_completed"] = "asset_completed"
    index: Index
    completed: AssetCompleted


class AssetFailedReport(Report):
    """One asset cannot be made; its siblings go on."""

    kind: Literal["asset_failed"] = "asset_failed"
    index: Index
    error: Said


class AttemptFailedReport(Report):
    """The attempt as a whole failed."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    error: Said


class AttemptReleasedReport(Report):
    """The worker is stopping and gives the job back."""

    kind: Literal["attempt_released"] = "attempt_released"


class CancelConfirmedReport(Report):
    """The worker stopped between steps, as requested."""

    kind: Literal["cancel_confirmed"] = "cancel_confirmed"


AnyReport = Annotated[
    StartedReport
    | HeartbeatReport
    | NoteReport
    | AssetCompletedReport
    | AssetFailedReport
    | AttemptFailedReport
    | AttemptReleasedReport
    | CancelConfirmedReport,
    Field(discriminator="kind"),
]
ANY_REPORT: TypeAdapter[AnyReport] = TypeAdapter(AnyReport)


class ReportReply(Message):
    """The recorder's answer, sent after the commit.

    `accepted`: it is in the ledger (or was already). Otherwise `code` says why: a refusal of the domain
    (`attempt_superseded`, `job_not_startable`, `pool_held`: drop the work; `worker_held`: leave it to others;
    `asset_ended`: drop it and delete its file; `prompt_already_enhanced`: give the job back), one of `UNACCEPTABLE`
    (say that this part of the work failed), or `unavailable` (ask again later).
    """

    accepted: bool
    code: str | None = None
    detail: str | None = None
    cancel_requested: bool = False


UNAVAILABLE = "unavailable"
"""Code of a reply that means: the ledger cannot be reached now; send the same report again."""

RECORDER_FAILED = "recorder_failed"
"""Code of a reply that means: this report made the recorder fail. Send it again a few times, then give it up."""

INVALID_REPORT = "invalid_report"
"""Code of a reply that means: the report cannot be read, or holds what no event may hold. It never will be taken."""

UNACCEPTABLE = frozenset({RECORDER_FAILED, INVALID_REPORT, EventTooLarge.code, InvalidInput.code})
"""Codes of replies that say nothing of who has the attempt: the report itself is at fault, and the attempt goes on."""
