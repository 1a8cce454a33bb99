"""Subjects and messages between services and workers on NATS. Nothing here connects to a broker."""

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from domain.bounds import MESSAGE_CHARACTERS_MAX, OUTPUTS_MAX, shortened, shortened_note
from domain.errors import EventTooLarge, InvalidInput
from domain.events import AssetCompleted, Failure, JobNote
from domain.recipes.recipe import Kind, Recipe
from domain.wording.enhancement import CHARACTERS_MAX

WAKE = "wake"
"""Lossy ping after a commit; a 200 ms poll covers a lost one."""

LEDGER_STREAM = "LEDGER"
"""All events of the ledger, in order: the stream's sequence is the ledger's position."""

WORK_STREAM = "WORK"
"""Work queue: a worker acks its message, which removes it, after the ledger has the end of the attempt."""

REPORTS = "reports.>"
"""Request and reply: workers report to the recorder, each under its own name."""

RECORDERS = "recorders"
"""Queue group of the recorders."""

ANNOUNCEMENTS = "workers.>"
"""Request and reply: each worker announces itself every few seconds and learns whether it may take jobs."""

ANNOUNCEMENT_BYTES_MAX = 16_384
"""Maximum bytes of an announcement; larger ones are ignored."""

PROGRESS = "progress.>"
"""Steps of running jobs, each under the name of its worker."""

CANCEL = b"cancel"
"""The payload of a cancel. Answers to the worker's own requests on that subject have another one."""

HAIL = b"announce"
"""The payload of a hail, which asks a worker to announce itself now because something about it changed."""

ENHANCE = "enhance"
"""Request and reply: the API asks a worker with a language model to enhance a prompt."""

ENHANCERS = "enhancers"
"""Queue group of the workers with a language model."""

ENHANCE_S_MAX = 20.0
"""Seconds to wait for an enhanced prompt, because a user waits: then the API uses the rules, and a worker that has not
begun drops the request."""

ATTEMPT_MAX = 2**31 - 1
"""Maximum number of an attempt: the range of a lease's column."""

Attempt = Annotated[int, Field(ge=1, le=ATTEMPT_MAX)]
Index = Annotated[int, Field(ge=0, lt=OUTPUTS_MAX)]
Said = Annotated[Failure, AfterValidator(shortened)]
"""An error in a report: shortened on both sides to the limits of an event, so that none is lost because of its
length."""

Note = Annotated[JobNote, AfterValidator(shortened_note)]

WORKER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
WORKER_NAME_CHARACTERS_MAX = 200
"""Maximum characters of a worker's name: its NATS user and its own name together."""

NATS_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})

HEARTBEAT_S = 10.0
LEASE_S = 30.0
"""Seconds of silence after which a worker's attempt is over; it reports every 10 s."""


def nats_servers(url: str) -> list[str]:
    """The servers of a NATS URL; several, separated by commas, form a cluster.

    Raises `ValueError` with our own message: a library's may quote a part of the password as the port.
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
    """The subject of an event in the broadcast: `ledger.<owner>.<aggregate>.<event>`."""
    return f"ledger.{owner}.{name}"


def work_subject(pool: str, job_id: UUID, attempt: int) -> str:
    """One subject per attempt, so that the broker itself refuses a duplicate of an attempt."""
    return f"work.{pool}.{job_id}.{attempt}"


def work_filter(pool: str) -> str:
    """The subjects that a worker of `pool` pulls."""
    return f"work.{pool}.>"


def work_consumer(pool: str) -> str:
    """The durable consumer that all workers of `pool` share."""
    return f"pool-{pool}"


def worker_name(user: str, name: str) -> str:
    """A worker's name in the ledger: its NATS user, which is authenticated, and the name it gives itself."""
    return f"{user}.{name}"


def user_of(worker: str) -> str:
    """The NATS user of a worker: no other user can send under its name."""
    return worker.partition(".")[0]


def report_subject(worker: str) -> str:
    """The subject of a worker's reports. NATS lets only its user publish here, so the subject identifies the sender."""
    return f"reports.{worker}"


def progress_subject(worker: str) -> str:
    """Steps of the worker's job; core NATS, never the ledger."""
    return f"progress.{worker}"


def announce_subject(worker: str) -> str:
    """The subject of a worker's announcements. NATS lets only its user publish here."""
    return f"workers.{worker}"


def hail_subject(worker: str) -> str:
    """The subject that asks a worker to announce itself now; it is among the subjects of its cancels."""
    return f"cancel.{worker}.announce"


def sender_of(subject: str) -> str:
    """The worker that sent a report, progress or an announcement."""
    return subject.partition(".")[2]


def is_worker_name(worker: str) -> bool:
    """Whether this is a valid name of a worker. NATS authenticates only the first part."""
    return len(worker) <= WORKER_NAME_CHARACTERS_MAX and WORKER_NAME.fullmatch(worker) is not None


def cancel_subject(worker: str, job_id: UUID) -> str:
    """Tells the worker that has the job to stop; heartbeats carry the same, in case the message is lost."""
    return f"cancel.{worker}.{job_id}"


def cancels_of(worker: str) -> str:
    """The cancels of all jobs of a worker."""
    return f"cancel.{worker}.*"


def inbox_prefix(worker: str) -> str:
    """The prefix of a worker's inbox; NATS lets only its user listen here."""
    return f"_INBOX.{user_of(worker)}"


class Message(BaseModel):
    """JSON on the wire. Frozen; unknown fields are refused, so that incompatible versions are noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(Message):
    """An asset to make: its index in the job, its seed, its kind and the path of its file.

    `provider_id` is set if an earlier attempt handed it over to a hosted engine: ask for that, do not pay again.
    """

    index: int
    seed: int
    kind: Kind
    path: str
    provider_id: str | None = None


class WorkOrder(Message):
    """One attempt of a job, complete: a worker needs nothing else. `outputs` holds the remaining assets.

    `enhanced_prompt` is the recipe's prompt as enhanced by an earlier attempt.
    """

    job_id: UUID
    owner: str
    attempt: int
    pool: str
    recipe: Recipe
    outputs: tuple[Output, ...] = Field(min_length=1)
    enhanced_prompt: str | None = None


class EnhanceRequest(Message):
    """A prompt to enhance, for an output of this kind."""

    prompt: str
    kind: Kind


class EnhanceReply(Message):
    """The enhanced prompt and its enhancer: see `domain.events.JobPromptEnhanced`."""

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
    """A model of a worker, and whether its next job can start without loading it."""

    name: ModelName
    loaded: bool


class Announcement(Message):
    """A worker's description of itself: its pools, models and device.

    `up_s`: seconds since it started. `idle_s`: seconds since its last job; None while it has one. `leaving`: it is
    about to end, as requested. Durations, because its clock may be wrong.
    """

    pools: Annotated[tuple[PoolName, ...], Field(max_length=32)]
    models: Annotated[tuple[AnnouncedModel, ...], Field(max_length=64)]
    device: Line
    version: Line
    up_s: DurationS
    idle_s: DurationS | None = None
    leaving: bool = False


class AnnouncementReply(Message):
    """`hold`: an operator paused or drained this worker; it takes no further job until an answer without a hold."""

    hold: Literal["paused", "drained"] | None = None
    reason: str | None = None


class Report(Message):
    """Every report names its attempt; the ledger refuses one of an attempt that is not current.

    The sender is not part of it: it is in the subject, which NATS authenticates.
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
    """A note about the running attempt; the worker continues once it is accepted."""

    kind: Literal["note"] = "note"
    note: Note


class AssetCompletedReport(Report):
    """The file of one asset is in the object store."""

    kind: Literal["asset_completed"] = "asset_completed"
    index: Index
    completed: AssetCompleted


class AssetFailedReport(Report):
    """One asset cannot be made; the other assets continue."""

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

    `accepted`: it is in the ledger (or already was). Otherwise `code` says why: a refusal of the domain
    (`attempt_superseded`, `job_not_startable`, `pool_held`: drop the work; `worker_held`: leave it to other workers;
    `asset_ended`: drop it and delete its file; `prompt_already_enhanced`: give the job back), one of `UNACCEPTABLE`
    (report that this part of the work failed), or `unavailable` (ask again later).
    """

    accepted: bool
    code: str | None = None
    detail: str | None = None
    cancel_requested: bool = False


UNAVAILABLE = "unavailable"
"""Code of a reply: the ledger cannot be reached now; send the same report again."""

RECORDER_FAILED = "recorder_failed"
"""Code of a reply: the report made the recorder fail. Send it again a few times, then give up."""

INVALID_REPORT = "invalid_report"
"""Code of a reply: the report is invalid or exceeds a limit of events. It will never be accepted."""

UNACCEPTABLE = frozenset({RECORDER_FAILED, INVALID_REPORT, EventTooLarge.code, InvalidInput.code})
"""Codes of replies that say nothing about who has the attempt: the report itself is at fault, and the attempt
continues."""
