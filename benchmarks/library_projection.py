"""The library's projection of a view, in its documented classes: what it writes for each event, and how far it is."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, LiteralString

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection
from eventsourcing.utils import get_topic

Statement = tuple[LiteralString, Sequence[Any] | Mapping[str, Any]]
Writer = Callable[[Any, int], Iterable[Statement]]


class TrackedRows(PostgresTrackingRecorder):
    """A materialised view: each event's statements and its tracking in one transaction."""

    def write(self, statements: Iterable[Statement], tracking: Tracking) -> None:
        """As the library's documentation does it."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for statement, parameters in statements:
                cursor.execute(statement, parameters, prepare=True)


@dataclass(slots=True)
class Course:
    """When a projection took its first event, and when that at `last` was committed, or it failed."""

    last: int
    began_s: float = 0.0
    ended_s: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)


class ViewProjection(Projection[TrackedRows]):
    """Takes the events that its view shows; the library filters by topic in the database.

    It says itself when it is done: the runner's `wait` looks after 0.1, 0.3, 0.7, 1.5 … seconds, and would find a
    projection half as fast as it is.
    """

    writers: ClassVar[Mapping[type[Any], Writer]] = {}
    course: ClassVar[Course]

    def process_event(self, domain_event: DomainEventProtocol[Any], tracking: Tracking) -> None:
        """Write the rows of one event."""
        course, going = self.course, False
        course.began_s = course.began_s or time.perf_counter()
        try:
            writer = self.writers[type(domain_event)]
            self.view.write(writer(domain_event, tracking.notification_id), tracking)
            going = tracking.notification_id < course.last
        finally:
            if not going:
                course.ended_s = time.perf_counter()
                course.ended.set()


def projection_of(view: str, writers: Mapping[type[Any], Writer], course: Course) -> type[ViewProjection]:
    """The projection class for one run of one of our views."""
    topics = tuple(get_topic(kind) for kind in writers)
    made: type[ViewProjection] = type(
        f"{view.capitalize()}Rows",
        (ViewProjection,),
        {"name": view, "writers": writers, "topics": topics, "course": course},
    )
    return made
