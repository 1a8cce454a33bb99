"""Events that views take by their kinds and that change nothing in them.

A test compares this with the code of the views, so each new event is decided on for each view.
"""

from collections.abc import Mapping
from typing import Final

from domain import events as facts
from domain.events import Event

IGNORED: Final[Mapping[str, frozenset[type[Event]]]] = {
    "jobs": frozenset({facts.AssetDismissed, facts.JobHandedOver, facts.JobMemoryLowered}),
    "performance": frozenset(
        {
            facts.JobCancelRequested,
            facts.JobHandedOver,
            facts.JobMemoryLowered,
            facts.JobPromptEnhanced,
            facts.JobReprioritized,
            facts.JobWarned,
        }
    ),
    "queue": frozenset({facts.JobHandedOver, facts.JobMemoryLowered, facts.JobPromptEnhanced, facts.JobWarned}),
}
"""By the name of the view; the others use all that they take."""
