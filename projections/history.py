"""All events, for people and programs to read: GET /v1/jobs/{id}/history and the event stream."""

from collections.abc import Sequence
from typing import Final

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.envelope import Recorded
from projections.projection import Projection
from projections.table import Table

HISTORY_TABLE: Final = Table(
    "history",
    key=("position",),
    others=("stream_id", "version", "type", "at", "actor", "owner", "correlation_id", "causation_id", "data"),
)


class History:
    """One row per event, never changed. Rows are copied in; there is nothing to fold."""

    name = "history"
    tables = (HISTORY_TABLE.name,)
    kinds = ()
    version = 1

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`."""
        with cursor.copy(HISTORY_TABLE.copy) as copy:
            for event in events:
                envelope = event.envelope
                copy.write_row(
                    (
                        event.position,
                        event.stream_id,
                        event.version,
                        event.name,
                        envelope.at,
                        envelope.actor,
                        envelope.owner,
                        envelope.correlation_id,
                        envelope.causation_id,
                        orjson.dumps(event.data).decode(),
                    )
                )


HISTORY: Final[Projection] = History()
