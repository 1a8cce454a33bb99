"""What the views of batches, prompts, ratings and turns must hold, computed in memory like those of `folding`."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from domain.policies.fairness import UNEXPECTED_S, charged, round_begun
from tests.system.facts import Fact, Row, Table


def studio(facts: Sequence[Fact], jobs: Table) -> dict[str, Table]:
    """Rows by table and key, of those tables that are not about single jobs and assets."""
    items = _items(facts, jobs)
    return {
        "batches": _batches(facts, items),
        "batch_items": {f"{batch}/{index}": row for batch, rows in items.items() for index, row in rows.items()},
        "batch_preferences": _preferences(facts),
        "prompts": _prompts(facts),
        "turns": _turns(facts, jobs),
        **_scores(facts),
    }


def _batches(facts: Sequence[Fact], items: dict[str, dict[int, Row]]) -> Table:
    batches: Table = {}
    for fact in facts:
        if fact.name == "batch.opened":
            names = ("owner", "kind", "name", "collection", "base", "prompt", "seed")
            batches[fact.stream] = {name: fact.data[name] for name in names}
            batches[fact.stream] |= {"created_at": fact.at, "opened_position": fact.position}
        elif fact.name == "batch.renamed":
            batches[fact.stream]["name"] = fact.data["name"]
    for batch, row in batches.items():
        row["counts"] = dict(Counter(item["status"] for item in items[batch].values()))
    return batches


def _items(facts: Sequence[Fact], jobs: Table) -> dict[str, dict[int, Row]]:
    """The last job of an item stands for it; an item without one was rejected."""
    items: dict[str, dict[int, Row]] = defaultdict(dict)
    for fact in facts:
        if fact.name != "batch.item_added":
            continue
        index, job = fact.data["index"], fact.data["job_id"]
        made = items[fact.stream].get(index, {"jobs": []})["jobs"]
        items[fact.stream][index] = {
            "owner": fact.owner,
            "template": fact.data["template"],
            "status": jobs[job]["status"] if job else "rejected",
            "job_id": job,
            "jobs": [*made, job] if job else made,
            "problem": fact.data["problem"],
        }
    return items


def _preferences(facts: Sequence[Fact]) -> Table:
    """Of two preferences on one pair the later counts."""
    found: Table = {}
    for fact in facts:
        if fact.name == "batch.preferred":
            found["/".join((fact.stream, *_pair(fact)))] = {
                "owner": fact.owner,
                "winner": fact.data["winner"],
                "blind": fact.data["blind"],
                "at": fact.at,
                "position": fact.position,
            }
    return found


def _prompts(facts: Sequence[Fact]) -> Table:
    prompts: Table = {}
    for fact in facts:
        if fact.name == "prompt.saved":
            prompts[fact.stream] = {
                "owner": fact.data["owner"],
                "created_at": fact.at,
                "saved_position": fact.position,
            }
        if fact.name in {"prompt.saved", "prompt.edited"}:
            names = ("title", "prompt", "negative_prompt", "model", "job_type", "task", "tags")
            prompts[fact.stream] |= {name: fact.data[name] for name in names}
            prompts[fact.stream] |= {"prompt_sha256": _sha256(fact.data["prompt"]), "updated_at": fact.at}
        elif fact.name == "prompt.deleted":
            del prompts[fact.stream]
    return prompts


def _turns(facts: Sequence[Fact], jobs: Table) -> Table:
    """Every attempt is charged to its owner, where the round of his pool and priority stands by then."""
    queued = {fact.stream: fact.data for fact in facts if fact.name == "job.queued"}
    turns: Table = {}
    rounds: dict[tuple[str, int], float] = defaultdict(float)
    for fact in facts:
        if fact.name not in {"job.queued", "job.started"}:
            continue
        data = queued[fact.stream]
        level = (data["pool"], data["priority"])
        fresh: Row = {"waiting": 0, "used_s": 0.0, "round_s": 0.0}
        row = turns.setdefault(f"{data['pool']}/{data['priority']}/{data['owner']}", fresh)
        if fact.name == "job.queued":
            row["waiting"] += jobs[fact.stream]["status"] == "queued"
            continue
        cost_s = data["expected_s"] or UNEXPECTED_S * len(data["recipe"]["seeds"])
        row["used_s"] = charged(row["used_s"], rounds[level], cost_s)
        rounds[level] = row["round_s"] = round_begun(row["used_s"], rounds[level])
    return turns


def _scores(facts: Sequence[Fact]) -> dict[str, Table]:
    """What the rows of `scores` are computed from."""
    jobs: Table = {}
    ratings: Table = {}
    preferences: Table = {}
    made_by: dict[str, str] = {}
    for fact in facts:
        if fact.name == "job.queued":
            jobs[fact.stream] = {
                "owner": fact.data["owner"],
                "batch_id": fact.data["batch_id"],
                "quantity": len(fact.data["recipe"]["seeds"]),
                "prompt_sha256": _sha256(fact.data["recipe"]["prompt"]),
                "model": fact.data["recipe"]["model"],
                "job_type": fact.data["recipe"]["job_type"],
            }
        elif fact.name == "asset.reserved":
            made_by[fact.stream] = fact.data["job_id"]
        elif fact.name == "asset.rated":
            ratings[fact.stream] = {"owner": fact.owner, "score": fact.data["score"]}
        elif fact.name == "batch.preferred":
            preferences["/".join(_pair(fact))] = {"owner": fact.owner, "winner": fact.data["winner"]}
    return {
        "score_jobs": jobs,
        "score_ratings": ratings,
        "score_preferences": preferences,
        "score_wins": _wins(preferences, jobs, made_by),
    }


def _wins(preferences: Table, jobs: Table, made_by: dict[str, str]) -> Table:
    """How often one prompt, model or job type was preferred to another one."""
    wins: Counter[str] = Counter()
    for pair, row in preferences.items():
        (loser,) = {*pair.split("/")} - {row["winner"]}
        better, worse = jobs[made_by[row["winner"]]], jobs[made_by[loser]]
        for by, column in (("prompt", "prompt_sha256"), ("model", "model"), ("job_type", "job_type")):
            if better[column] != worse[column]:
                wins["/".join((row["owner"], by, better[column], worse[column]))] += 1
    return {key: {"wins": number} for key, number in wins.items()}


def _pair(fact: Fact) -> list[str]:
    return sorted((fact.data["winner"], fact.data["loser"]))


def _sha256(text: Any) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()
