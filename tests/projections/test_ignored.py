"""Each view has decided on each event that it takes: it uses the event, or projections/ignored.py lists it."""

import ast
from pathlib import Path

import pytest

import projections
from domain.aggregates.job import ENDED_AS
from domain.codec import CURRENT, name_of, of_kinds
from domain.events import Event
from projections import ALL
from projections.ignored import IGNORED
from projections.projection import Projection

MODULES = {
    "batches": ("batches",),
    "fleet": ("fleet",),
    "jobs": ("jobs", "asset_rows"),
    "library": ("library", "asset_rows"),
    "performance": ("performance",),
    "prompts": ("prompts",),
    "queue": ("queue",),
    "scores": ("scores/view", "scores/preferences", "scores/rows"),
    "workspace": ("workspace", "asset_rows"),
}
"""The modules of each view; `history` keeps every event as it is."""


def used_by(view: str) -> set[type[Event]]:
    """The events that the code of a view names."""
    trees = [ast.parse((Path(projections.__path__[0]) / f"{module}.py").read_text("utf-8")) for module in MODULES[view]]
    named = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used = {event for event in CURRENT.values() if event.__name__ in named}
    return used | set(ENDED_AS) if "ENDED_AS" in named else used


@pytest.mark.parametrize("view", [view for view in ALL if view.name != "history"], ids=lambda view: view.name)
def test_every_event_that_a_view_takes_is_used_or_listed(view: Projection) -> None:
    taken = {event for topic, event in CURRENT.items() if of_kinds(name_of(topic), tuple(view.kinds))}
    ignored = IGNORED.get(view.name, frozenset())
    assert used_by(view.name) & ignored == set()
    assert taken - used_by(view.name) == ignored
