"""What the view `scores` must hold, in the plainest way: from all that was said, each row by itself."""

from collections import Counter, defaultdict
from typing import Any
from uuid import UUID

from domain import events as facts
from domain.envelope import Recorded
from domain.policies import scoring
from services.ledger import Ledger
from tests.histories import Views

Row = dict[str, Any]


def scores_afresh(ledger: Ledger) -> dict[tuple[str, str, str], Row]:
    """Every row of `scores` but its key and first position."""
    events = [event for event in ledger.read(0, 100_000) if isinstance(event, Recorded)]
    values: dict[UUID, tuple[str, dict[str, str]]] = {}
    jobs_of_assets: dict[UUID, UUID] = {}
    latest: dict[UUID, int] = {}
    preferred: dict[frozenset[UUID], tuple[UUID, UUID]] = {}
    for event in events:
        match event.event:
            case facts.JobQueued(owner=owner, recipe=recipe):
                about = {"prompt": recipe.prompt, "model": recipe.model, "job_type": recipe.job_type}
                values[event.stream_id] = (owner, about)
            case facts.AssetReserved(job_id=job_id):
                jobs_of_assets[event.stream_id] = job_id
            case facts.AssetRated(score=score):
                latest[event.stream_id] = score
            case facts.BatchPreferred(winner=winner, loser=loser):
                preferred[frozenset((winner, loser))] = (winner, loser)
            case _:
                pass
    found: dict[tuple[str, str, str], Row] = {}
    for by in ("prompt", "model", "job_type"):
        name_of = {job_id: (owner, about[by]) for job_id, (owner, about) in values.items()}
        wins: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for winner, loser in preferred.values():
            owner, better = name_of[jobs_of_assets[winner]]
            _, worse = name_of[jobs_of_assets[loser]]
            if better != worse:
                wins[owner][better, worse] += 1
        for (owner, value), jobs in Counter(name_of.values()).items():
            given = [score for asset, score in latest.items() if name_of[jobs_of_assets[asset]] == (owner, value)]
            distribution = [given.count(score) for score in scoring.SCORES]
            found[owner, by, value] = {
                "jobs": jobs,
                "rated": len(given),
                "distribution": distribution,
                "mean": round(sum(given) / len(given), 4) if given else None,
                "score": scoring.bayesian_average(distribution),
                "won": sum(number for (winner, _), number in wins[owner].items() if winner == value),
                "lost": sum(number for (_, loser), number in wins[owner].items() if loser == value),
                "strength": scoring.strengths(wins[owner]).get(value),
                "formula": scoring.FORMULA,
            }
    return found


def scores_shown(views: Views, schema: str = "views") -> dict[tuple[str, str, str], Row]:
    """The rows of the view, as `scores_afresh` gives them."""
    return {
        (row.pop("owner"), row.pop("by"), row.pop("value")): row
        for row in views.rows("scores", schema=schema)
        if [row.pop("key"), row.pop("first_position")]
    }
