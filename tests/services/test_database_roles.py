"""What each role of the database may do, and what it may not: tried as that role, on the real Postgres."""

from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from projections import ALL
from services.database import Database
from services.ledger import JOB, Context, Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.ledger.verification import verify_chain
from services.views.owned_views import OwnedViews
from services.views.projector import Projector
from services.views.rebuild import matches_ledger, rebuild, rebuild_as_of
from tests.histories import Story, Views
from tests.spec import CANCEL, NOW

READER, WRITER, PROJECTOR, API = "darkroom_reader", "darkroom_writer", "darkroom_projector", "darkroom_api"

LIBRARY = next(view for view in ALL if view.name == "library")


class acting:  # noqa: N801 - reads as a function
    """A database, and the ledger in it, as a role."""

    def __init__(self, dsn: str, role: str) -> None:
        self.dsn = make_conninfo(dsn, user=role)
        self.database = Database(self.dsn)
        self._flusher = Flusher(self.dsn)

    def __enter__(self) -> "acting":
        self.database.open()
        self._flusher.__enter__()
        self._recorder = PostgresRecorder(self.database, self._flusher)
        self.ledger = Ledger(self._recorder)
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self._recorder.datastore.close()
        self._flusher.close()
        self.database.close()


FORBIDDEN = {
    "insert into ledger": "insert into ledger values (gen_random_uuid(), 1, 'x', '', 1)",
    "update of ledger": "update ledger set topic = ''",
    "delete from ledger": "delete from ledger",
    "truncate of ledger": "truncate ledger",
    "link of one's own": "insert into ledger_commits (last_position, first_position, hash) values (1, 1, sha256(''))",
    "command of one's own": "insert into ledger_commands values (gen_random_uuid(), 1, 1)",
    "no trigger": "alter table ledger disable trigger ledger_append_only",
    "another function": "create or replace function ledger_append() returns void language sql as 'select'",
    "append": "select ledger_append('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
    "read ledger": "select from ledger",
    "read others' rows": "select from views.queue",
    "write a view": "update views.library set prompt = ''",
    "drop a view": "drop table views.library",
    "no row security": "alter table views.library disable row level security",
    "move a checkpoint": "update view_progress set position = 0",
    "park": "delete from parked_events",
    "lease": "delete from leases",
    "thumbnail": "delete from thumbnail_tries",
    "announce": "delete from workers",
    "see a pool": "delete from pools_seen",
    "sweep": "update file_sweeps set position = 0",
    "migrate": "delete from migrations",
    "stop writes": "select ledger_stop('because')",
    "let writes go on": "delete from ledger_stopped",
    "no stop": "alter table ledger disable trigger ledger_stop",
    "an epoch of one's own": "insert into epochs (number, from_position, reason) values (1, 1, 'mine')",
    "a table of one's own": "create table mine (id int)",
    "a table in the views": "create table views_next.mine (id int)",
    "a role of one's own": "create role another",
    "a file of the server": "select pg_read_file('/etc/passwd')",
}
MAY = {
    API: {"read others' rows"},  # no row of theirs is in it: see below
    READER: {"read ledger", "read others' rows", "stop writes"},
    WRITER: {
        *("read ledger", "read others' rows", "append", "lease", "thumbnail", "sweep", "stop writes"),
        *("announce", "see a pool"),
    },
    PROJECTOR: {
        *("read ledger", "read others' rows", "write a view", "drop a view", "no row security"),
        *("move a checkpoint", "park", "a table in the views", "stop writes"),
    },
}


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_role_may_do_what_it_needs_and_nothing_else(dsn: str, role: str, what: str) -> None:
    def attempt() -> None:
        with psycopg.connect(make_conninfo(dsn, user=role)) as connection:
            connection.execute(FORBIDDEN[what].encode())
            connection.rollback()

    if what in MAY[role]:
        attempt()
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            attempt()


def test_the_writer_appends_and_reads(dsn: str, views: Views) -> None:
    with acting(dsn, WRITER) as writer:
        story = Story(writer.ledger, lambda: NOW)
        job_id = story.submit(2)
        writer.ledger.execute(JOB, job_id, CANCEL, Context("ada"))
        assert [event.position for event in writer.ledger.read(0, 100)] == list(range(1, 7))
        verified = verify_chain(writer.database)
        assert (verified.misfit, verified.events) == (None, writer.ledger.head())


def test_the_api_becomes_the_role_of_one_owner(dsn: str, story: Story, views: Views) -> None:
    story.submit(1)
    views.catch_up()
    with OwnedViews(make_conninfo(dsn, user=WRITER)) as owned:
        for owner, rows in (("ada", 1), ("bob", 0)):
            with owned.of(owner) as connection:
                assert len(connection.execute("select from views.queue").fetchall()) == rows
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("select from ledger")


def test_the_projector_keeps_and_rebuilds_the_views(dsn: str, story: Story, views: Views) -> None:
    story.submit(2)
    with acting(dsn, PROJECTOR) as projector:
        follow = Projector(projector.database, projector.ledger, ALL)
        while follow.step():
            pass
        assert follow.release() == 0
        for _ in range(2):  # the second drops what the first put aside
            for view in ALL:
                assert rebuild(projector.database, projector.ledger, view).same
        assert rebuild_as_of(projector.database, projector.ledger, LIBRARY, 1).rows == 2
        assert matches_ledger(projector.database, projector.ledger, LIBRARY).same
        story.submit(1)
        while follow.step():
            pass
    with psycopg.connect(make_conninfo(dsn, user=READER)) as connection:
        assert len(connection.execute("select from views.queue").fetchall()) == 2
    with OwnedViews(dsn) as owned, owned.of("bob") as connection:
        assert connection.execute("select from views.queue").fetchall() == []


def test_whoever_migrated_rebuilds_what_a_projector_built_and_the_other_way_round(
    dsn: str, database: Database, ledger: Ledger, story: Story, views: Views
) -> None:
    story.submit(1)
    views.catch_up()
    with acting(dsn, PROJECTOR) as projector:
        for turn in (projector.database, database, projector.database):
            assert rebuild(turn, ledger, LIBRARY).same


def test_a_login_of_ones_own_is_a_member_of_its_role(dsn: str, story: Story, views: Views) -> None:
    """Not only the roles themselves: whoever is in them."""
    name = f"keeper_{uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create role {name} login in role {PROJECTOR}".encode())
        try:
            story.submit(1)
            with acting(dsn, name) as projector:
                while Projector(projector.database, projector.ledger, ALL).step():
                    pass
                assert rebuild(projector.database, projector.ledger, LIBRARY).same
            owners = connection.execute("select distinct tableowner::text from pg_tables where schemaname = 'views'")
            assert owners.fetchall() == [(PROJECTOR,)]
        finally:
            connection.execute(f"reassign owned by {name} to {PROJECTOR}".encode())
            connection.execute(f"drop role {name}".encode())
