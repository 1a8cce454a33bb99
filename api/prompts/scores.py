"""Scores: ratings and preferences by prompt, model or job type."""

import asyncio
from typing import Annotated, Final, get_args

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http import schemas
from api.http.identity import identity_of
from api.http.openapi import answers
from api.http.pages import LIMIT_DEFAULT, Cursor, Limit, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import listed
from api.state import ApiState, state_of
from domain.errors import FieldProblem, InvalidInput
from domain.json_type import Json
from domain.policies.scoring import SCORE_DECIMALS, SCORES
from projections.reads import scores as score_reads
from projections.reads.scores import ScorePlace, ScoreRow
from projections.scores.rows import By

router = APIRouter(tags=["scores"])

BYS: Final = get_args(By)

UNIT: Final = 10**SCORE_DECIMALS
"""Units per point of a score: cursors hold whole numbers."""


@router.get("/v1/scores", response_model=None, responses=answers({200: schemas.Page[schemas.Score]}, 422, 503))
async def list_scores(
    request: Request,
    by: Annotated[str | None, Query(description=f"Required: {', '.join(BYS)}.")] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """The best first; of equal scores the one with more ratings, then the one that was first used later.

    A cursor is a place in this order: what is not rated in the meantime appears exactly once. What is rated between two
    pages moves, and may be missed or repeated.
    """
    state = state_of(request)
    wanted = _by(by)
    place = place_of(f"scores.{wanted}", cursor, parts=3)
    after = None if place is None else (place[0] / UNIT, place[1], place[2])
    await wait_for_views(request, state.positions, "scores")
    rows = await asyncio.to_thread(_rows, state, identity_of(request).owner, wanted, after, limit + 1)
    page, following = page_of(rows, limit, f"scores.{wanted}", _place)
    return listed([score_document(row) for row in page], following)


def score_document(row: ScoreRow) -> Json:
    """`Score`."""
    return {
        "by": row.by,
        "value": row.key,
        "prompt": row.value if row.by == "prompt" else None,
        "jobs": row.jobs,
        "count": row.rated,
        "mean": row.mean,
        "distribution": {str(score): number for score, number in zip(SCORES, row.distribution, strict=True)},
        "score": row.score,
        "preferences": {"won": row.won, "lost": row.lost},
        "strength": row.strength,
        "formula": row.formula,
    }


def _by(asked: str | None) -> By:
    for known in BYS:
        if asked == known:
            found: By = known
            return found
    raise InvalidInput([FieldProblem("by", f"must be one of {', '.join(BYS)}")])


def _place(row: ScoreRow) -> tuple[int, int, int]:
    return round(row.score * UNIT), row.rated, row.first_position


def _rows(state: ApiState, owner: str, by: By, after: ScorePlace | None, limit: int) -> list[ScoreRow]:
    with state.parts.views.of(owner) as connection:
        return score_reads.list_scores(connection, owner, by, after=after, limit=limit)
