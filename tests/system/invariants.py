"""What holds of an installation at rest, whatever was done to it before: checks that read what is there.

Each check is plain and knows nothing of the code that it checks, but for the two that ask Darkroom to prove itself
(`verify_chain` and the comparison of views). `what_is_wrong` runs all of them.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg

from services.database import Database
from services.files.blobs import Blobs
from services.files.sweeper import Sweeper
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.ledger.verification import verify_chain
from tests.system.calls import Made, batches, calls, repeats, retries
from tests.system.facts import Fact
from tests.system.losses import Losses
from tests.system.stored import as_of, files, ledger_stream, views

JOB_ENDINGS = {"job.succeeded", "job.partially_succeeded", "job.failed", "job.canceled", "job.aborted"}
ASSET_ENDINGS = {"asset.completed", "asset.failed", "asset.canceled"}
NOTES = {"job.prompt_enhanced", "job.memory_lowered", "job.handed_over", "job.warned"}


@dataclass(frozen=True, slots=True)
class Place:
    """An installation: its Postgres, its NATS as its operator (who may read LEDGER), and its folder of files."""

    dsn: str
    nats_url: str
    blobs: Path

    @classmethod
    def of(cls, folder: Path) -> "Place":
        """That of the data folder of `darkroom up`, while it runs."""
        conf = json.loads((folder / "nats.conf").read_text())
        users = [user for account in conf["accounts"].values() for user in account["users"]]
        operator = next(user for user in users if "permissions" not in user)
        nats_url = f"nats://{operator['user']}:{operator['password']}@127.0.0.1:{conf['port']}"
        return cls((folder / "postgres.dsn").read_text().strip(), nats_url, folder / "blobs")


@dataclass(slots=True)
class Submission:
    """What a client knows of a submit. `tag` is a tag of that job alone, by which the ledger tells it.

    `accepted`: 202, or 200 for a repeat; `doubtful`: the answer was lost, and it was not repeated.
    """

    tag: str
    answer: Literal["accepted", "refused", "doubtful"] = "doubtful"
    job_id: str | None = None


@dataclass(slots=True)
class Heard:
    """What a client of the event stream learned, over all its connections, after a position: position and `data`.

    `ids`: as they were sent, where that was kept.
    """

    owner: str
    after: int = 0
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """`wrong`: sentences, none when all holds. `excepted`: files that only an exception explains, by its name."""

    wrong: list[str] = field(default_factory=list)
    excepted: Counter[str] = field(default_factory=Counter)
    facts: list[Fact] = field(default_factory=list)


def what_is_wrong(
    place: Place,
    said: Sequence[Submission] = (),
    heard: Sequence[Heard] = (),
    made: Made | None = None,
    moments: int = 0,
    losses: Losses | None = None,
) -> Found:
    """Run every check on an installation in which every job has ended and every follower is at the ledger's end.

    `made`: every other call that its clients made; None where nobody kept account of them. `moments`: at how many of
    the past its views are looked at. `losses`: what restores of older backups took.
    """
    losses = losses or Losses()
    found = Found(facts=facts_of(place.dsn))
    facts = found.facts
    found.wrong += order(facts)
    found.wrong += submissions(facts, said, losses.streams)
    found.wrong += endings(facts)
    found.wrong += attempts(facts)
    found.wrong += batches(facts)
    found.wrong += repeats(facts)
    if made is not None:
        found.wrong += calls(facts, made.calls, losses.marks, losses.moved_after)
        found.wrong += retries(facts, made.retries, losses.streams)
    found.wrong += event_streams(facts, heard, epochs_of(place.dsn))
    found.wrong += asyncio.run(ledger_stream(place.dsn, place.nats_url))
    with (
        Database(place.dsn) as database,
        Flusher(place.dsn) as flusher,
        Ledger(PostgresRecorder(database, flusher)) as ledger,
    ):
        verified = verify_chain(database)
        if verified.misfit is not None or verified.events != len(facts):
            found.wrong.append(f"the chain does not verify: {verified}")
        found.wrong += views(database, ledger, facts)
        found.wrong += as_of(database, ledger, facts, moments)
        sweeper = Sweeper(database, ledger, Blobs(place.blobs.as_uri()), after_s=(0.0, 0.0), unfinished_s=0.0)
        while sweeper.step():  # what it would do a minute, or a day, later
            pass
    found.wrong += files(place.blobs, facts, found.excepted, losses)
    return found


def facts_of(dsn: str) -> list[Fact]:
    """The whole ledger."""
    query = "select notification_id, originator_id, originator_version, topic, state from ledger order by 1"
    with psycopg.connect(dsn) as connection:
        return [Fact.of(*row) for row in connection.execute(query).fetchall()]


def order(facts: Sequence[Fact]) -> Iterator[str]:
    """Positions are 1, 2, 3 … and so are the versions of each stream; nothing stands before its beginning."""
    versions: Counter[str] = Counter()
    for position, fact in enumerate(facts, 1):
        versions[fact.stream] += 1
        if fact.position != position:
            yield f"position {position} is missing: {fact.position} stands in its place"
            return
        if fact.version != versions[fact.stream]:
            yield f"stream {fact.stream} has version {fact.version} where {versions[fact.stream]} belongs"


def epochs_of(dsn: str) -> list[tuple[str, int]]:
    """Of each epoch what its event ids begin with, and the first position that has such an id."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select epoch, number, from_position from epochs order by number").fetchall()
    return [("" if number == 0 else f"{epoch.hex[:8]}-", first) for epoch, number, first in rows]


def submissions(facts: Sequence[Fact], said: Sequence[Submission], lost: Container[str] = frozenset()) -> Iterator[str]:
    """What was accepted is there once, what was refused is not, what is in doubt is there once or not.

    `lost`: jobs that a restore took.
    """
    jobs: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        if fact.name == "job.queued" and fact.data["parent_id"] is None:  # one that runs again has its parent's tags
            for tag in fact.data["tags"]:
                jobs[tag].append(fact.stream)
    for one in said:
        there = jobs.get(one.tag, [])
        answer = "doubtful" if one.job_id in lost else one.answer
        allowed = {"accepted": (1,), "refused": (0,), "doubtful": (0, 1)}[answer]
        if len(there) not in allowed:
            yield f"the submit {one.tag} was {one.answer} and is in the ledger {len(there)} times: {there}"
        if answer == "accepted" and there and one.job_id not in there:
            yield f"the submit {one.tag} was answered with job {one.job_id}, and the ledger has {there}"


def endings(facts: Sequence[Fact]) -> Iterator[str]:
    """Every job and asset ended exactly once; a job's assets are 0 … N-1, and it ended as they did."""
    ends = {"job.queued": JOB_ENDINGS, "asset.reserved": ASSET_ENDINGS}
    begun: dict[str, str] = {}
    ended: dict[str, list[str]] = defaultdict(list)
    assets: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for fact in facts:
        if fact.name in ends:
            begun[fact.stream] = fact.name
        if fact.name in JOB_ENDINGS | ASSET_ENDINGS:
            ended[fact.stream].append(fact.name)
        if fact.name == "asset.reserved":
            assets[fact.data["job_id"]].append((fact.data["index"], fact.stream))
    for stream, name in begun.items():
        if len(ended[stream]) != 1 or ended[stream][0] not in ends[name]:
            yield f"{name.partition('.')[0]} {stream} ended {len(ended[stream])} times: {ended[stream]}"
    for fact in facts:
        if fact.name == "job.queued":
            indexes = sorted(index for index, _ in assets[fact.stream])
            if indexes != list(range(len(fact.data["recipe"]["seeds"]))):
                yield f"job {fact.stream} has assets {indexes}"
            yield from _ending_tells(
                fact.stream, ended[fact.stream], [ended[asset] for _, asset in assets[fact.stream]]
            )


def _ending_tells(job: str, ending: Sequence[str], of_assets: Iterable[Sequence[str]]) -> Iterator[str]:
    became = {name for names in of_assets for name in names}
    right = {
        "job.succeeded": became == {"asset.completed"},
        "job.partially_succeeded": became == {"asset.completed", "asset.failed"},
        "job.failed": became == {"asset.failed"},
        "job.canceled": "asset.canceled" in became,
        "job.aborted": became == {"asset.canceled"},
    }
    yield from (f"{job} ended as {name}, its assets as {sorted(became)}" for name in ending if not right[name])


def attempts(facts: Sequence[Fact]) -> Iterator[str]:
    """No report of an attempt that did not run at that moment, or of another worker than the one that had it."""
    running: dict[str, tuple[int, str] | None] = {}
    last: Counter[str] = Counter()
    over: set[str] = set()
    for fact in facts:
        job = fact.correlation
        now = running.get(job)
        reported: int = fact.data.get("attempt", 0)
        told = f"{fact.name} at {fact.position} of job {job}"
        if fact.name == "job.started":
            if now is not None or job in over or reported != last[job] + 1:
                yield f"{told}: attempt {reported} starts after {last[job]} while {now} runs"
            last[job] = reported
            running[job] = (reported, fact.data["worker"])
        elif fact.name in NOTES | {"job.requeued", "job.cancel_requested", "asset.completed", "asset.failed"}:
            if now is None or job in over or reported != now[0]:
                yield f"{told}: is of attempt {reported} while {now} runs"
            elif fact.name in NOTES | {"asset.completed"} and fact.actor != now[1]:
                yield f"{told}: is by {fact.actor}, and {now[1]} has the attempt"
        if fact.name == "job.requeued":
            running[job] = None
        elif fact.name in JOB_ENDINGS:
            running[job] = None
            over.add(job)


def event_streams(
    facts: Sequence[Fact], heard: Sequence[Heard], epochs: Sequence[tuple[str, int]] = ()
) -> Iterator[str]:
    """Each client got exactly its owner's events after its beginning, in order, with their content and ids."""
    for client, one in enumerate(heard):
        expected = [fact for fact in facts if fact.owner == one.owner and fact.position > one.after]
        positions, told = [fact.position for fact in expected], [position for position, _ in one.events]
        if told != positions:
            missing, more = sorted(set(positions) - set(told))[:5], sorted(set(told) - set(positions))[:5]
            yield (
                f"client {client} of {one.owner} heard {len(told)} events where there are {len(positions)}: without "
                f"{missing}, in addition to {more}, doubled {[p for p, n in Counter(told).items() if n > 1][:5]}"
            )
            continue
        for fact, (_, data) in zip(expected, one.events, strict=True):
            if (data["type"], data["stream"], data["version"], data["data"]) != (
                fact.name,
                fact.stream,
                fact.version,
                fact.data,
            ):
                yield f"client {client} of {one.owner} heard something else at {fact.position}: {data}"
        for position, heard_id in zip(told, one.ids, strict=False):
            prefix = [prefix for prefix, first in epochs if position >= first][-1]
            if heard_id != f"{prefix}{position}":
                yield f"client {client} of {one.owner} heard {position} as {heard_id}, and not as {prefix}{position}"


def attempts_of(facts: Sequence[Fact]) -> Counter[str]:
    """How many attempts each job took."""
    return Counter(fact.stream for fact in facts if fact.name == "job.started")
