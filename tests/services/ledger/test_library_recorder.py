"""The eventsourcing library's own test cases, on both recorders."""

import pytest
from eventsourcing.tests.persistence import ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase

from services.ledger import InMemoryRecorder, PostgresRecorder


class OnPostgres:
    """Gives a test case of the library a recorder on a fresh database."""

    recorder: PostgresRecorder

    @pytest.fixture(autouse=True)
    def _given(self, recorder: PostgresRecorder) -> None:
        self.recorder = recorder

    def create_recorder(self) -> PostgresRecorder:
        """The test's own; asked for once a test."""
        return self.recorder


class TestPostgresRecorder(OnPostgres, ApplicationRecorderTestCase[PostgresRecorder]):
    """Insert, select, subscribe, and many at once."""

    def test_insert_subscribe(self) -> None:
        """Not collected by itself: for the library a recorder need not have subscriptions. Ours polls."""
        self.optional_test_insert_subscribe()


class TestPostgresPositions(OnPostgres, NonInterleavingNotificationIDsBaseCase):
    """The positions of one commit stand together."""


class TestInMemoryRecorder(ApplicationRecorderTestCase[InMemoryRecorder]):
    """The same for the recorder of tests."""

    def create_recorder(self) -> InMemoryRecorder:
        """A fresh one."""
        return InMemoryRecorder()

    def test_insert_subscribe(self) -> None:
        """See above."""
        self.optional_test_insert_subscribe()


class TestInMemoryPositions(NonInterleavingNotificationIDsBaseCase):
    """The same for the recorder of tests."""

    def create_recorder(self) -> InMemoryRecorder:
        """A fresh one."""
        return InMemoryRecorder()


# The library's classes are here only to be subclassed: pytest would collect them as well.
del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase
