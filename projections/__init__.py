"""Views: domain events in, SQL out. A projection is a module; its tables are disposable and rebuilt from the ledger."""

from typing import Final

from projections import batches, fleet, history, jobs, library, performance, prompts, queue, workspace
from projections.projection import Projection
from projections.scores import view as scores

ALL: Final[tuple[Projection, ...]] = (
    history.HISTORY,
    jobs.JOBS,
    batches.BATCHES,
    workspace.WORKSPACE,
    library.LIBRARY,
    queue.QUEUE,
    performance.PERFORMANCE,
    scores.SCORES,
    prompts.PROMPTS,
    fleet.FLEET,
)
"""All views, in rebuild order."""
