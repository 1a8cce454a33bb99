"""Events as they are stored, read without Darkroom's code."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

Row = dict[str, Any]
Table = dict[str, Row]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of the table `ledger`."""

    position: int
    stream: str
    version: int
    name: str
    at: datetime
    actor: str
    owner: str
    correlation: str
    data: dict[str, Any]

    @classmethod
    def of(cls, position: int, stream: UUID, version: int, topic: str, state: bytes) -> "Fact":
        """A row of the table `ledger`."""
        stored = orjson.loads(state)
        meta = stored["meta"]
        return cls(
            position,
            str(stream),
            version,
            topic.rpartition(".v")[0],
            datetime.fromisoformat(meta["at"]),
            meta["actor"],
            meta["owner"],
            meta["correlation_id"],
            stored["data"],
        )
