"""Ratings and preferences by prompt, model and job type: GET /v1/scores, and the figures of saved prompts.

An asset counts with its latest rating even if it is later trashed or purged: it was still made by this model from that
prompt. Every job counts as a use, including jobs that failed, were canceled, or retry another job.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain.codec import NAMES
from domain.envelope import Recorded
from domain.policies import scoring
from projections.projection import Projection
from projections.scores.preferences import count_preferences
from projections.scores.rows import (
    SCORE_JOB_TABLE,
    SCORE_PREFERENCE_TABLE,
    SCORE_RATING_TABLE,
    SCORE_TABLE,
    SCORE_WIN_TABLE,
    SQL,
    Change,
    ScoredJob,
    Subject,
    apply,
    facts_of,
    prompt_key,
    store,
)


class Scores:
    """Counts per owner and key, and the figures that `domain.policies.scoring` derives from them.

    Reads only rows that the events touch, and rows connected to those by preferences.
    """

    name = "scores"
    tables = (
        SCORE_JOB_TABLE.name,
        SCORE_PREFERENCE_TABLE.name,
        SCORE_RATING_TABLE.name,
        SCORE_WIN_TABLE.name,
        SCORE_TABLE.name,
    )
    kinds = tuple(NAMES[kind] for kind in (facts.JobQueued, facts.AssetRated, facts.BatchPreferred))

    @property
    def version(self) -> int:
        """See `Projection`: other formulas make other rows."""
        return scoring.FORMULA

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`.

        Raises `LookupError` for a rating or preference without a row for its job: the job is parked.
        """
        queued = list(facts_of(facts.JobQueued, events))
        rated = list(facts_of(facts.AssetRated, events))
        preferred = list(facts_of(facts.BatchPreferred, events))
        if not (queued or rated or preferred):
            return
        changes: dict[Subject, Change] = defaultdict(Change)
        jobs = _add_jobs(cursor, queued, changes)
        _load_jobs(cursor, jobs, rated, preferred)
        _count_ratings(cursor, rated, jobs, changes)
        count_preferences(cursor, preferred, jobs, changes)
        apply(cursor, changes)


SCORES: Final[Projection] = Scores()


def _add_jobs(
    cursor: Cursor[TupleRow], queued: Sequence[tuple[Recorded, facts.JobQueued]], changes: dict[Subject, Change]
) -> dict[UUID, ScoredJob]:
    jobs: dict[UUID, ScoredJob] = {}
    for recorded, event in queued:
        recipe = event.recipe
        job = ScoredJob(
            recorded.stream_id,
            event.owner,
            event.batch_id,
            recipe.quantity,
            prompt_key(recipe.prompt),
            recipe.model,
            recipe.job_type,
        )
        jobs[job.job_id] = job
        for subject, value in zip(job.subjects(), (recipe.prompt, recipe.model, recipe.job_type), strict=True):
            change = changes[subject]
            change.jobs += 1
            change.beginning = change.beginning or (value, recorded.position)
    if jobs:
        store(cursor, SCORE_JOB_TABLE.insert, list(jobs.values()))
    return jobs


def _load_jobs(
    cursor: Cursor[TupleRow],
    jobs: dict[UUID, ScoredJob],
    rated: Sequence[tuple[Recorded, facts.AssetRated]],
    preferred: Sequence[tuple[Recorded, facts.BatchPreferred]],
) -> None:
    """Add the jobs of the ratings, by correlation id, and those of the batches."""
    wanted = {recorded.envelope.correlation_id for recorded, _ in rated} - jobs.keys()
    batches = {recorded.stream_id for recorded, _ in preferred}
    if wanted or batches:
        found = cursor.execute(SQL["load_jobs"], (list(wanted), list(batches)), prepare=True).fetchall()
        jobs |= {row[0]: ScoredJob(*row) for row in found}


def _count_ratings(
    cursor: Cursor[TupleRow],
    rated: Sequence[tuple[Recorded, facts.AssetRated]],
    jobs: Mapping[UUID, ScoredJob],
    changes: dict[Subject, Change],
) -> None:
    if not rated:
        return
    assets = list({recorded.stream_id for recorded, _ in rated})
    latest: dict[UUID, int] = dict(cursor.execute(SQL["load_ratings"], (assets,), prepare=True).fetchall())
    owners: dict[UUID, str] = {}
    for recorded, event in rated:
        job = jobs.get(recorded.envelope.correlation_id)
        if job is None:
            raise LookupError("there is no row for this asset's job: the job is missing here")
        before = latest.get(recorded.stream_id)
        for subject in job.subjects():
            changes[subject].distribution[event.score - 1] += 1
            if before is not None:
                changes[subject].distribution[before - 1] -= 1
        latest[recorded.stream_id] = event.score
        owners[recorded.stream_id] = job.owner
    rows = [{"asset_id": asset, "owner": owner, "score": latest[asset]} for asset, owner in owners.items()]
    store(cursor, SCORE_RATING_TABLE.store, rows)
