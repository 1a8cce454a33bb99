"""Preferences between two assets, counted for their prompt, model and job type; and the resulting strengths."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain.envelope import Recorded
from domain.policies import scoring
from domain.recipes.recipe import asset_id
from projections.projection import Row
from projections.scores.rows import (
    SCORE_PREFERENCE_TABLE,
    SCORE_WIN_TABLE,
    SQL,
    Change,
    ScoredJob,
    Subject,
    columns,
    store,
)

Edge = tuple[str, str, str, str]
"""Owner, kind of key, the preferred key, the other key."""


def count_preferences(
    cursor: Cursor[TupleRow],
    preferred: Sequence[tuple[Recorded, facts.BatchPreferred]],
    jobs: Mapping[UUID, ScoredJob],
    changes: dict[Subject, Change],
) -> None:
    """Keep the latest preference for each pair and count it. `jobs` holds those of the batches.

    Raises `LookupError` for an asset that belongs to none of these jobs.
    """
    if not preferred:
        return
    pairs = {_pair(event): recorded.envelope.owner for recorded, event in preferred}
    found = cursor.execute(SQL["load_preferences"], columns(pairs, 2), prepare=True).fetchall()
    winners: dict[tuple[UUID, UUID], UUID] = {(one, other): winner for one, other, winner in found}
    moves: dict[Edge, int] = defaultdict(int)
    assets = {batch: dict(_assets_of(batch, jobs)) for batch in {recorded.stream_id for recorded, _ in preferred}}
    for recorded, event in preferred:
        job_of = assets[recorded.stream_id]
        if event.winner not in job_of or event.loser not in job_of:
            raise LookupError("there is no row for one of these assets' jobs: the job is missing here")
        before = winners.get(_pair(event))
        winners[_pair(event)] = event.winner
        if before == event.winner:
            continue
        for (owner, by, won), (_, _, lost) in zip(
            job_of[event.winner].subjects(), job_of[event.loser].subjects(), strict=True
        ):
            if won != lost:  # a comparison with itself has no meaning
                moves[owner, by, won, lost] += 1
                if before is not None:  # the earlier preference was the opposite
                    moves[owner, by, lost, won] -= 1
    rows = [
        {"one": one, "other": other, "owner": owner, "winner": winners[one, other]}
        for (one, other), owner in pairs.items()
    ]
    store(cursor, SCORE_PREFERENCE_TABLE.store, rows)
    _move_wins(cursor, {edge: by for edge, by in moves.items() if by}, changes)


def _move_wins(cursor: Cursor[TupleRow], moves: Mapping[Edge, int], changes: dict[Subject, Change]) -> None:
    """Count wins, and recompute the strengths of every key that is connected to these by preferences."""
    touched = {(owner, by, key) for owner, by, *keys in moves for key in keys}
    if not touched:
        return
    found = cursor.execute(SQL["connected_wins"], columns(touched, 3), prepare=True).fetchall()
    wins: dict[Edge, int] = {(owner, by, winner, loser): number for owner, by, winner, loser, number in found}
    for edge, number in moves.items():
        wins[edge] = wins.get(edge, 0) + number
    store(cursor, SCORE_WIN_TABLE.store, [_win(edge, wins[edge]) for edge in moves if wins[edge]])
    store(cursor, SQL["remove_wins"], [_win(edge, 0) for edge in moves if not wins[edge]])
    tables: dict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(dict)
    for (owner, by, winner, loser), number in wins.items():
        if number:
            tables[owner, by][winner, loser] = number
    for (owner, by), table in tables.items():
        won: dict[str, int] = defaultdict(int)
        lost: dict[str, int] = defaultdict(int)
        for (winner, loser), number in table.items():
            won[winner] += number
            lost[loser] += number
        for key, strength in scoring.strengths(table).items():
            changes[owner, by, key].standing = (won[key], lost[key], strength)


def _pair(event: facts.BatchPreferred) -> tuple[UUID, UUID]:
    return min(event.winner, event.loser), max(event.winner, event.loser)


def _assets_of(batch: UUID, jobs: Mapping[UUID, ScoredJob]) -> Iterator[tuple[UUID, ScoredJob]]:
    for job in jobs.values():
        if job.batch_id == batch:
            yield from ((asset_id(job.job_id, index), job) for index in range(job.quantity))


def _win(edge: Edge, wins: int) -> Row:
    return dict(zip(("owner", "by", "winner", "loser"), edge, strict=True)) | {"wins": wins}
