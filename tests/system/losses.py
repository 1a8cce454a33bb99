"""What a restore of an older backup took for good: nobody can be held to what was said of it before."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.system.calls import MARKS, Mark
from tests.system.facts import Fact


@dataclass(slots=True)
class Losses:
    """Events that the ledger had and has no more, over all restores of an installation.

    `moved_after`: what stood at later positions came back at others; None where everything kept its position.
    """

    facts: list[Fact] = field(default_factory=list)
    moved_after: int | None = None

    def add(self, before: Sequence[Fact], after: Sequence[Fact]) -> int:
        """Hold the ledger of before against the ledger of after; how many events are gone."""
        there = {_content(fact) for fact in after}
        gone = [fact for fact in before if _content(fact) not in there]
        self.facts += gone
        return len(gone)

    def moved(self, after: int) -> None:
        """From now on positions after this one do not count."""
        self.moved_after = after if self.moved_after is None else min(after, self.moved_after)

    @property
    def streams(self) -> frozenset[str]:
        """Of jobs, assets, batches, prompts and uploads that are gone with their beginning."""
        return frozenset(fact.stream for fact in self.facts if fact.version == 1)

    @property
    def marks(self) -> frozenset[tuple[str, str, Mark]]:
        """Of calls whose fact is gone."""
        return frozenset((fact.owner, fact.name, MARKS[fact.name](fact)) for fact in self.facts if fact.name in MARKS)

    @property
    def paths(self) -> frozenset[str]:
        """Of files that lost events named: they are left where they are."""
        return frozenset(fact.data["path"] for fact in self.facts if "path" in fact.data)

    @property
    def undeleted(self) -> frozenset[str]:
        """Streams of uploads and assets with a deletion that is gone, though the file is deleted."""
        return frozenset(fact.stream for fact in self.facts if fact.name in {"media.deleted", "asset.purged"})


def _content(fact: Fact) -> tuple[Any, ...]:
    return fact.stream, fact.version, fact.name, fact.at, orjson.dumps(fact.data, option=orjson.OPT_SORT_KEYS)
