"""Tampering shows: whoever can write to the tables can change the past, but not so that the chain still fits."""

import threading
from uuid import uuid4

import psycopg
import pytest

from services.database import Database
from services.ledger import verification as verify
from services.ledger.flusher import Flusher
from services.ledger.verification import GENESIS, Misfit, Verified, verify_chain
from tests.services.commits import WAIT_S_MAX, opening


@pytest.fixture
def grown(flusher: Flusher) -> None:
    """A ledger of five commits of two events each, each commit a group of its own: positions 1 … 10."""
    for _ in range(5):
        flusher.append(opening(events=2)).result(timeout=WAIT_S_MAX)


def tamper(dsn: str, *statements: str) -> None:
    """Change the past as a superuser can: with the triggers off."""
    with psycopg.connect(dsn) as connection:
        connection.execute("set session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0


def links(dsn: str) -> list[bytes]:
    """The hashes on record."""
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("select hash from ledger_commits order by last_position")]


def test_an_empty_ledger_fits(database: Database) -> None:
    assert verify_chain(database) == Verified(events=0, commits=0, head=GENESIS.hex(), misfit=None)


@pytest.mark.usefixtures("grown")
def test_a_ledger_that_nobody_touched_fits(dsn: str, database: Database) -> None:
    assert verify_chain(database) == Verified(events=10, commits=5, head=links(dsn)[-1].hex(), misfit=None)


@pytest.mark.parametrize("links_read_at_a_time", [1, 2, 4, 5])
@pytest.mark.usefixtures("grown")
def test_a_chain_longer_than_what_is_read_at_a_time_fits(
    database: Database, monkeypatch: pytest.MonkeyPatch, links_read_at_a_time: int
) -> None:
    monkeypatch.setattr(verify, "COMMITS_MAX", links_read_at_a_time)
    assert verify_chain(database).commits == 5
    assert verify_chain(database).misfit is None


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("update ledger set state = '{}' where notification_id = 6", 5),
        ("update ledger set topic = 'job.failed.v1' where notification_id = 5", 5),
        ("update ledger set originator_id = gen_random_uuid() where notification_id = 2", 1),
        ("update ledger set originator_version = 9 where notification_id = 10", 9),
        ("update ledger_commits set hash = sha256('') where last_position = 4", 3),
        ("update ledger set notification_id = 11 where notification_id = 10", 10),
        ("delete from ledger where notification_id = 7", 7),
        ("delete from ledger where notification_id in (7, 8)", 7),
        ("delete from ledger where notification_id = 10", 10),
        ("delete from ledger where notification_id = 1", 1),
        ("delete from ledger_commits where last_position = 6", 5),
        ("delete from ledger_commits where last_position = 10", 9),
        ("delete from ledger_commits", 1),
        ("insert into ledger values (gen_random_uuid(), 1, 't.v1', '{}', 11)", 11),
    ],
)
@pytest.mark.usefixtures("grown")
def test_the_first_place_that_does_not_fit_is_named(
    dsn: str, database: Database, statement: str, position: int
) -> None:
    tamper(dsn, statement)
    misfit = verify_chain(database).misfit
    assert misfit is not None
    assert misfit.position == position


@pytest.mark.usefixtures("grown")
def test_two_events_that_changed_places_do_not_fit(dsn: str, database: Database) -> None:
    tamper(
        dsn,
        "update ledger set notification_id = 99 where notification_id = 3",
        "update ledger set notification_id = 3 where notification_id = 6",
        "update ledger set notification_id = 6 where notification_id = 99",
    )
    misfit = verify_chain(database).misfit
    assert isinstance(misfit, Misfit)
    assert misfit.position == 3


@pytest.mark.usefixtures("grown")
def test_a_forged_link_does_not_fit_the_next_one(dsn: str, database: Database) -> None:
    previous = links(dsn)[1].hex()
    tamper(
        dsn,
        "update ledger set state = '{}' where notification_id = 6",
        f"update ledger_commits set hash = ledger_link('\\x{previous}', 5, 6) where last_position = 6",
    )
    misfit = verify_chain(database).misfit
    assert misfit is not None
    assert misfit.position == 7


@pytest.mark.usefixtures("grown")
def test_an_end_that_was_cut_off_shows_in_the_head_alone(dsn: str, database: Database) -> None:
    before = verify_chain(database)
    tamper(dsn, "delete from ledger where notification_id > 8", "delete from ledger_commits where last_position > 8")
    after = verify_chain(database)
    assert after.misfit is None
    assert (after.events, after.commits) == (8, 4)
    assert after.head != before.head


def test_a_ledger_fits_at_every_moment_while_it_grows(dsn: str, database: Database, flusher: Flusher) -> None:
    stop = threading.Event()

    def grow() -> None:
        while not stop.is_set():
            flusher.append(opening(uuid4(), events=3)).result(timeout=WAIT_S_MAX)

    writers = [threading.Thread(target=grow) for _ in range(3)]
    for writer in writers:
        writer.start()
    looks = [verify_chain(database) for _ in range(15)]
    stop.set()
    for writer in writers:
        writer.join()
    assert [look.misfit for look in looks] == [None] * 15
    assert verify_chain(database).events >= looks[-1].events >= looks[0].events
