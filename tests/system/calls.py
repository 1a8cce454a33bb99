"""What clients know of calls other than submits, held against the ledger: each is there once, and nothing else is."""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.system.facts import Fact

Mark = tuple[Any, ...]

MARKS: Final[Mapping[str, Callable[[Fact], Mark]]] = {
    "asset.rated": lambda fact: (fact.stream, fact.data["score"]),
    "batch.opened": lambda fact: (fact.data["name"],),
    "batch.renamed": lambda fact: (fact.stream, fact.data["name"]),
    "batch.preferred": lambda fact: (fact.stream, *(fact.data[name] for name in ("winner", "loser", "blind"))),
    "prompt.saved": lambda fact: (fact.data["title"],),
    "prompt.edited": lambda fact: (fact.stream, fact.data["title"]),
    "prompt.deleted": lambda fact: (fact.stream,),
}
"""By what the calls behind a fact learn from others; clients give every batch, prompt and edit a name of its own."""


@dataclass(slots=True)
class Call:
    """What a client knows of a call that appends a fact of this name and mark, unless it is so already.

    `accepted`: 200 or 201; `doubtful`: the answer was lost. `stream` and `position` are those of the answer.
    """

    owner: str
    name: str
    mark: Mark
    answer: Literal["accepted", "refused", "doubtful"] = "doubtful"
    stream: str | None = None
    position: int | None = None


@dataclass(slots=True)
class Retry:
    """What a client knows of a call that runs lost outputs again: of a job, or of items of a batch."""

    owner: str
    of: str
    answer: Literal["accepted", "refused", "doubtful"] = "doubtful"
    jobs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Made:
    """All calls of all clients of an installation: what is there without one of them is wrong."""

    calls: list[Call] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)


def calls(
    facts: Sequence[Fact],
    said: Sequence[Call],
    lost: Container[tuple[str, str, Mark]] = (),
    moved_after: int | None = None,
) -> Iterator[str]:
    """What was accepted is there, before the answer; of calls with one mark no more than were sent; and no other.

    `lost`: owner, name and mark of facts that a restore took. `moved_after`: positions after it do not count.
    """
    there: dict[tuple[str, str, Mark], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.name in MARKS:
            there[fact.owner, fact.name, MARKS[fact.name](fact)].append(fact)
    sent: dict[tuple[str, str, Mark], list[Call]] = defaultdict(list)
    for call in said:
        sent[call.owner, call.name, call.mark].append(call)
    for key in there.keys() | sent.keys():
        found, made = there.get(key, []), sent.get(key, [])
        answers = Counter(call.answer for call in made)
        fewest = int(bool(answers["accepted"]) and key not in lost)
        if not fewest <= len(found) <= answers["accepted"] + answers["doubtful"]:
            yield f"{key} is in the ledger {len(found)} times, and its calls were answered {dict(answers)}"
            continue
        for call in made if key not in lost else ():
            if call.answer == "accepted" and not any(_is_before(fact, call, moved_after) for fact in found):
                yield f"{call} is in the ledger at {[(fact.position, fact.stream) for fact in found]}"


def _is_before(fact: Fact, call: Call, moved_after: int | None) -> bool:
    position = call.position
    if position is None or (moved_after is not None and position > moved_after):
        position = fact.position
    return fact.stream == (call.stream or fact.stream) and fact.position <= position


def repeats(facts: Sequence[Fact]) -> Iterator[str]:
    """Who says what is so already changes nothing."""
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for fact in facts:
        if fact.name not in {"asset.rated", "batch.renamed", "batch.preferred", "prompt.edited"}:
            continue
        pair = sorted((fact.data["winner"], fact.data["loser"])) if fact.name == "batch.preferred" else ()
        key = (fact.stream, fact.name, *pair)
        if last.get(key) == fact.data:
            yield f"{fact.name} at {fact.position} says what was so already: {fact.data}"
        last[key] = fact.data


def retries(facts: Sequence[Fact], said: Sequence[Retry], lost: Set[str] = frozenset()) -> Iterator[str]:
    """A job that runs outputs again is one that was answered, or of a retry whose answer was lost, which has one.

    `lost`: jobs that a restore took.
    """
    again = {
        (fact.owner, fact.stream): (fact.data["parent_id"], fact.data["batch_id"])
        for fact in facts
        if fact.name == "job.queued" and fact.data["parent_id"] is not None
    }
    answered = {(one.owner, job) for one in said if one.answer == "accepted" for job in one.jobs}
    yield from (
        f"the retry of {owner} that was answered with job {job} is not in the ledger"
        for owner, job in answered - again.keys()
        if job not in lost
    )
    doubtful = Counter((one.owner, one.of) for one in said if one.answer == "doubtful")
    unknown = Counter((owner, *again[owner, job]) for owner, job in again.keys() - answered)
    for (owner, parent, batch), jobs in unknown.items():
        if jobs > doubtful[owner, parent] + doubtful[owner, batch]:
            yield f"outputs of job {parent} of {owner} run again {jobs} times, and nobody asked for that"


def batches(facts: Sequence[Fact]) -> Iterator[str]:
    """A batch is there with all its items, each job of it stands for one item, and preferences are of two items."""
    jobs = {fact.stream: fact.data for fact in facts if fact.name == "job.queued"}
    made_by = {fact.stream: fact.data["job_id"] for fact in facts if fact.name == "asset.reserved"}
    items: dict[str, dict[int, None]] = {fact.stream: {} for fact in facts if fact.name == "batch.opened"}
    item_of: dict[str, tuple[str, int]] = {}
    for fact in facts:
        if fact.name == "batch.item_added":
            job, index = fact.data["job_id"], fact.data["index"]
            items[fact.stream][index] = None
            if job is None:
                continue
            if job in item_of or job not in jobs or jobs[job]["batch_id"] != fact.stream:
                yield f"item {index} of batch {fact.stream} has job {job}, which stands for {item_of.get(job)}"
            item_of[job] = (fact.stream, index)
        elif fact.name == "batch.preferred":
            sides = [item_of.get(made_by[fact.data[side]]) for side in ("winner", "loser")]
            if sides[0] == sides[1] or {side and side[0] for side in sides} != {fact.stream}:
                yield f"the preference at {fact.position} of batch {fact.stream} is of the items {sides}"
    for job, data in jobs.items():
        # one whose place another job has taken runs again by itself
        if data["batch_id"] is not None and data["parent_id"] is None and job not in item_of:
            yield f"job {job} is of batch {data['batch_id']}, which has no such item"
    for batch, indexes in items.items():
        if list(indexes) != list(range(len(indexes))) or not indexes:
            yield f"batch {batch} has items {list(indexes)}"
    yield from _comparisons(facts, jobs)


def _comparisons(facts: Sequence[Fact], jobs: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """What is compared is of one prompt and one seed."""
    compared = {
        fact.stream: (fact.data["prompt"], fact.data["seed"])
        for fact in facts
        if fact.name == "batch.opened" and fact.data["kind"] == "comparison"
    }
    for job, data in jobs.items():
        recipe = data["recipe"]
        common = compared.get(data["batch_id"])
        if common and data["parent_id"] is None and (recipe["prompt"], recipe["seeds"][0]) != common:
            yield f"job {job} of comparison {data['batch_id']} has another prompt or seed"
