"""Whatever happens, in whatever batches: the live view, a rebuilt one and one folded in one go have equal rows."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.aggregates.asset import Asset, Completed, Reserved
from domain.aggregates.generation import Generation
from domain.aggregates.job import attempt_of
from domain.commands import (
    AssetCommand,
    ChangeTags,
    DeletePrompt,
    DismissAsset,
    EditPrompt,
    JobCommand,
    PreferAsset,
    PurgeAsset,
    RateAsset,
    RenameBatch,
    ReprioritizeJob,
    RestoreAsset,
    SaveAsset,
    TagAsset,
    ThumbnailAsset,
    TitleAsset,
    TrashAsset,
    UnsaveAsset,
)
from domain.errors import Refused
from domain.recipes.recipe import asset_id
from projections import ALL
from services.database import Database
from services.ledger import InMemoryRecorder, Ledger
from services.views import projector, rebuild
from tests.afresh import scores_afresh, scores_shown
from tests.conftest import Clock
from tests.histories import Story, Views
from tests.spec import (
    CANCEL,
    NOW,
    OUT_OF_MEMORY,
    confirm,
    expire,
    fail,
    release,
    report_completed,
    report_failed,
    start,
    thumbnail_of,
)

WORKERS_SAY: Final[dict[str, Callable[[int, int], JobCommand]]] = {
    "start": lambda attempt, _: start(attempt + 1),
    "complete": lambda attempt, index: report_completed(index, max(attempt, 1)),
    "fail asset": lambda attempt, index: report_failed(index, max(attempt, 1)),
    "fail": lambda attempt, _: fail(attempt, OUT_OF_MEMORY),
    "release": lambda attempt, _: release(attempt),
    "expire": lambda attempt, _: expire(attempt),
    "cancel": lambda *_: CANCEL,
    "reprioritize": lambda attempt, index: ReprioritizeJob(2 * index - attempt, NOW),
    "confirm": lambda attempt, _: confirm(attempt),
}
OWNERS_SAY: Final[dict[str, Callable[[int], AssetCommand]]] = {
    "thumbnail": lambda number: ThumbnailAsset(thumbnail_of(number), NOW),
    "rate": lambda number: RateAsset(1 + number % 5, NOW),
    "title": lambda number: TitleAsset(None if number % 3 == 0 else f'"{number}" \\ fog', NOW),
    "tag": lambda number: TagAsset(("sea", f"ö{number}")[: number % 3], NOW),
    "change tags": lambda number: ChangeTags((f"ö{number % 4}",), ("sea", f"ö{number % 3}")[: number % 2], NOW),
    "save": lambda _: SaveAsset(NOW),
    "unsave": lambda _: UnsaveAsset(NOW),
    "dismiss": lambda _: DismissAsset(NOW),
    "trash": lambda _: TrashAsset(NOW),
    "restore": lambda _: RestoreAsset(NOW),
    "purge": lambda _: PurgeAsset(NOW),
}

BATCHES_SAY: Final = ("open batch", "rename batch", "run again", "run again", "prefer of batch")

WORDS: Final = (
    *("start", "complete") * 5,
    *WORKERS_SAY,
    *OWNERS_SAY,
    *OWNERS_SAY,
    *BATCHES_SAY,
    "upload",
    "prefer",
    "prompt",
    "hold",
)
Steps = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 6), st.integers(0, 5)), min_size=30, max_size=60)
Quantities = st.lists(st.sampled_from([1, 3, 6]), min_size=1, max_size=2)
Cuts = st.lists(st.integers(1, 9), min_size=1, max_size=8)


# The pool draws how long its connections live in a thread of its own, which may be while Hypothesis draws.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quantities=Quantities, steps=Steps, cuts=Cuts, as_of=st.floats(0, 1))
def test_a_view_is_the_same_however_it_came_about(
    database: Database, quantities: list[int], steps: list[tuple[str, int, int]], cuts: list[int], as_of: float
) -> None:
    with Ledger(InMemoryRecorder()) as ledger, pytest.MonkeyPatch.context() as patch:
        views = _emptied(Views(database, ledger))
        tell(Story(ledger, Clock().tick), quantities, steps)
        past = int(as_of * ledger.head())
        project_in_cuts(views, cuts, past)
        then = views.all_rows()
        project_in_cuts(views, cuts, ledger.head())
        live = views.all_rows()
        assert scores_shown(views) == scores_afresh(ledger)
        patch.setattr(rebuild, "BATCH_EVENTS_MAX", 10_000)  # in one go
        for view in ALL:
            assert rebuild.rebuild(database, ledger, view).same
            rebuild.rebuild_as_of(database, ledger, view, past)
        assert views.all_rows() == views.all_rows(schema="views_previous") == live
        assert views.all_rows(schema="views_as_of") == then
        assert views.parked() == []


def _emptied(views: Views) -> Views:
    """Without the rows of earlier examples."""
    for table in (table for view in ALL for table in view.tables):
        views.ask(f"truncate views.{table}")
    views.ask("truncate view_progress")
    return views


def tell(story: Story, quantities: Sequence[int], steps: Sequence[tuple[str, int, int]]) -> None:
    """Where a step names an asset, it is one that the step can change, if there is any."""
    jobs: list[UUID] = [story.submit(quantity) for quantity in quantities]
    comparison_id, compared = story.compared("sdxl-demo", "flux", "wan-demo", quantity=2)
    jobs += compared
    prompts = [story.save_prompt()]
    batch_id, of_batch = story.open_batch(*quantities, 0, 1, kind="comparison")
    jobs += of_batch
    for word, which, number in steps:
        job_id = jobs[which % len(jobs)]
        generation = story.ledger.generation(job_id)
        with suppress(Refused):  # what the rules do not allow leaves no trace
            if word == "upload":
                story.upload(number)
            elif word == "open batch":
                batch_id, of_batch = story.open_batch(0, 1 + number % 2, collection=None)
                jobs += of_batch
            elif word in BATCHES_SAY:
                jobs += _tell_batch(story, batch_id, word, number)
            elif word == "prompt":
                _change_prompt(story, prompts, which, number)
            elif word == "hold":
                story.hold(which, number)
            elif word == "prefer":
                winner, loser = ((0, 1), (1, 0), (1, 2), (2, 0), (0, 2), (2, 1))[number]
                story.prefer(comparison_id, compared[winner], compared[loser], index=which % 2)
            elif word in OWNERS_SAY:
                story.curate(job_id, _pick(generation, Completed, number), OWNERS_SAY[word](number))
            else:
                index = _pick(generation, Reserved, number)
                story.tell(job_id, WORKERS_SAY[word](attempt_of(generation.job), index))


def _tell_batch(story: Story, batch_id: UUID, word: str, number: int) -> list[UUID]:
    """Something about the batch; the jobs that it leads to."""
    items = story.ledger.batch(batch_id)[0].items
    made = [(index, item.jobs[-1]) for index, item in items.items() if item.jobs]
    match word:
        case "rename batch":
            story.tell_batch(batch_id, RenameBatch(f"Foxes {number}", NOW))
        case "run again":
            return [story.run_again(batch_id, made[number % len(made)][0])]
        case _:
            (_, winner), (_, loser) = made[number % len(made)], made[-1]
            command = PreferAsset(asset_id(winner, 0), asset_id(loser, 0), number % 2 == 0, NOW, winner, loser)
            story.tell_batch(batch_id, command)
    return []


def _change_prompt(story: Story, prompts: list[UUID], which: int, number: int) -> None:
    if number == 0:
        prompts.append(story.save_prompt(f"Fog {which}"))
    elif number == 1:
        story.change_prompt(prompts[which % len(prompts)], DeletePrompt(NOW))
    else:
        edited = EditPrompt(NOW, title=f"{which}", prompt=f"fog {number}", tags=("ö", "sea")[: number % 3])
        story.change_prompt(prompts[which % len(prompts)], edited)


def _pick(generation: Generation, state: type[Asset], number: int) -> int:
    fitting = [index for index, asset in enumerate(generation.assets) if isinstance(asset, state)]
    return fitting[number % len(fitting)] if fitting else number % len(generation.assets)


def project_in_cuts(views: Views, cuts: Sequence[int], upto: int) -> None:
    """Bring the views to this position in batches of these sizes, as if the ledger ended there."""
    sizes = cycle(cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views.ledger, "head", lambda: upto)  # the projector reads ahead
        while min(views.positions().values(), default=0) < upto:
            patch.setattr(projector, "BATCH_EVENTS_MAX", next(sizes))
            views.projector.step()
