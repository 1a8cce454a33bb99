"""All events, for people and programs to read: GET /v1/jobs/{id}/history and the event stream."""

from collections.abc import Sequence
from typing import Final

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.envelope import Recorded
from projections.projection import Projection
from projections.sql import load

SQL = load("history.sql")


class History:
    """One row per event, never changed. Rows are copied in; there is nothing to fold."""

    name = "history"
    tables = ("history",)
    kinds = ()
    version = 1

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`."""
        with cursor.copy(SQL["copy"]) as copy:
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
