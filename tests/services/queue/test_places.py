"""Where waiting jobs stand: in the order of dispatch, at a price that does not grow with the backlog."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from domain.policies.fairness import in_order
from services.database import Database
from services.queue.backlog import DEPTH, read_backlog
from services.queue.queue_positions import AHEAD_MAX, COUNTED_MAX, FRONT, HandedOut, places_in_queue
from tests.histories import Story, Views
from tests.spec import CANCEL, fail, release, report_completed, start


def places(database: Database, jobs: list[UUID], handed_out: HandedOut | None = None) -> list[int | None]:
    """The place of each of these jobs, asked for together."""
    with database.connection() as connection:
        found = places_in_queue(connection, jobs, handed_out or {})
        for job_id in jobs:
            alone = places_in_queue(connection, [job_id], handed_out or {})
            assert alone == ({job_id: found[job_id]} if job_id in found else {})
    assert all(len(standing.ahead_s) == min(standing.position - 1, AHEAD_MAX) for standing in found.values())
    return [found[job_id].position if job_id in found else None for job_id in jobs]


def test_places_follow_priority_then_turns_then_arrival(database: Database, story: Story, views: Views) -> None:
    ada = [story.submit(6) for _ in range(3)]  # a minute each: one fills a round
    ben = [story.submit(6, owner="ben") for _ in range(2)]
    urgent = story.submit(6, owner="cleo", priority=5)
    elsewhere = story.submit(6, pool="wan")
    views.catch_up()
    assert places(database, [*ada, *ben, urgent, elsewhere]) == [2, 4, 6, 3, 5, 1, 1]
    story.tell(urgent, start(1))
    story.tell(ada[0], start(1))
    story.tell(ben[1], CANCEL)
    views.catch_up()
    assert places(database, [*ada, *ben, urgent]) == [None, 2, 3, 1, None, None]
    assert places(database, []) == []


def test_what_is_handed_out_goes_first_and_its_owner_is_charged(database: Database, story: Story, views: Views) -> None:
    ada = [story.submit(6) for _ in range(2)]  # a minute each: one fills a round
    ben = [story.submit(6, owner="ben") for _ in range(2)]
    views.catch_up()
    assert places(database, [*ada, *ben]) == [1, 3, 2, 4]
    assert places(database, [*ada, *ben], {"sdxl": [(ben[0], 1)]}) == [2, 3, 1, 4]
    assert places(database, [*ada, *ben], {"sdxl": [(ada[0], 1), (ada[1], 1)]}) == [1, 2, 3, 4]
    assert places(database, [*ada, *ben], {"wan": [(ben[0], 1)], "sdxl": [(ben[0], 7)]}) == [1, 3, 2, 4]


def test_a_job_that_waits_for_its_next_attempt_is_ahead_of_nobody(
    database: Database, story: Story, views: Views
) -> None:
    failed, waiting = story.submit(1), story.submit(1)
    story.tell(failed, start(1), fail(1))
    views.catch_up()
    views.ask(
        "update views.queue set not_before = clock_timestamp() + interval '1 minute' where not_before is not null"
    )
    assert places(database, [waiting]) == [1]
    with database.connection() as connection:
        standing = places_in_queue(connection, [failed])[failed]
    assert not standing.is_due


def test_jobs_are_handed_out_in_the_order_of_their_places(database: Database, story: Story, views: Views) -> None:
    owners = ("ada", "ben", "cleo")
    jobs = [story.submit(1 + number % 3 * 2, owner=owners[number % 3], priority=number % 2) for number in range(9)]
    views.catch_up()
    handed: list[tuple[UUID, int]] = []
    expected = [job for _, job in sorted(zip(places(database, jobs), jobs, strict=True), key=lambda each: each[0] or 0)]
    for _ in jobs:  # one after the other, as the dispatcher does
        with database.connection() as connection:
            backlog = read_backlog(connection, "sdxl", handed, due=True)
        following = next(in_order(backlog.lines, backlog.rounds, {}))
        handed.append((following.job_id, following.attempt))
        assert places(database, [following.job_id], {"sdxl": handed}) != [None]
    assert [job for job, _ in handed] == expected


def test_deep_in_a_line_of_its_own_a_place_is_exact(database: Database, story: Story, views: Views) -> None:
    jobs = [story.submit(1) for _ in range(3 * DEPTH)]
    views.catch_up()
    assert places(database, jobs[::-1]) == list(range(3 * DEPTH, 0, -1))


def test_deep_in_a_line_a_place_counts_the_turns_of_others(database: Database, story: Story, views: Views) -> None:
    ada = [story.submit(1) for _ in range(4 * DEPTH)]
    for _ in range(DEPTH):
        story.submit(1, owner="ben")
    story.submit(1, owner="cleo", priority=1)
    views.catch_up()
    last_two = places(database, ada[-2:])
    assert last_two == [5 * DEPTH, 5 * DEPTH + 1]


def test_the_turns_of_an_owner_count_what_waits_and_what_was_started(story: Story, views: Views) -> None:
    canceled, running, again, done, ended = (story.submit(2) for _ in range(5))
    waiting = story.submit(3, priority=1)
    story.tell(canceled, CANCEL)
    story.tell(running, start(1))
    story.tell(again, start(1), release(1))
    story.tell(done, start(1), report_completed(0), report_completed(1))
    views.catch_up()
    story.tell(ended, start(1), CANCEL, release(1))  # as it was in the view between two batches
    views.catch_up()
    told = "select priority, waiting, waiting_s, used_s from views.turns order by priority"
    seen = (
        "select priority, count(*), sum(cost_s) from views.queue where status = 'waiting' group by priority order by 1"
    )
    assert views.ask(told) == [(0, 1, 20.0, 80.0), (1, 1, 30.0, 0.0)]  # four attempts of two images were started
    assert [row[:3] for row in views.ask(told)] == views.ask(seen)
    assert {again, waiting} == {row["job_id"] for row in views.rows("queue") if row["status"] == "waiting"}


WAITING = 100_000
OWNERS = 50

FILL = """
insert into views.queue (job_id, owner, pool, job_type, priority, status, queued_at, queued_position, cost_s)
select lpad(n::text, 32, '0')::uuid, case when n %% 2 = 0 then 'ada' else 'owner-' || n %% %(owners)s end,
  'sdxl', 'sdxl_image_fast', (n %% 3) - 1, 'waiting', clock_timestamp(), n, 4
from generate_series(1, %(waiting)s) n
"""
COUNT = """
insert into views.turns
select pool, priority, owner, count(*), sum(cost_s), 0, 0 from views.queue group by pool, priority, owner
"""


def read_rows(plan: dict[str, Any]) -> float:
    """How many rows of tables and indexes a plan touched."""
    own = plan["Actual Rows"] * plan["Actual Loops"] if "Relation Name" in plan else 0.0
    own += plan.get("Rows Removed by Filter", 0) * plan["Actual Loops"]
    return own + sum(read_rows(child) for child in plan.get("Plans", []))


@pytest.fixture
def crowded(database: Database) -> Database:
    """A hundred thousand jobs wait, half of them one owner's."""
    with database.connection() as connection:
        connection.execute(FILL.encode(), {"owners": OWNERS, "waiting": WAITING})
        connection.execute(COUNT.encode())
        connection.execute("analyze views.queue; analyze views.turns")
    return database


class Explained:
    """A connection that explains what it is asked, and adds up the rows that were read for it."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection
        self.rows = 0.0

    def execute(self, query: str, arguments: Any = None, **_: Any) -> Any:
        """Explain, then answer."""
        asked = f"explain (analyze, format json) {query}".encode()
        row = self._connection.execute(asked, arguments).fetchone()
        assert row is not None
        plan = row[0] if not isinstance(row[0], str) else orjson.loads(row[0])
        self.rows += read_rows(plan[0]["Plan"])
        return self._connection.execute(query.encode(), arguments)


def test_who_is_next_is_read_from_the_front_of_a_long_backlog(crowded: Database) -> None:
    with crowded.connection() as connection:
        explained: Any = Explained(connection)
        backlog = read_backlog(explained, "sdxl", due=True)
    lines = len(backlog.lines)
    assert sum(line.waiting for line in backlog.lines) == WAITING
    assert explained.rows <= lines * (DEPTH + 5)


def test_a_place_in_a_long_backlog_costs_a_bounded_reading(crowded: Database) -> None:
    jobs = [UUID(f"{number:032}") for number in (2, WAITING // 2, WAITING)]
    with crowded.connection() as connection:
        explained: Any = Explained(connection)
        found = places_in_queue(explained, jobs)
        (exact,) = places_in_queue(connection, jobs[-1:]).values()
    assert set(found) == set(jobs)
    assert exact == found[jobs[-1]]
    assert explained.rows <= 3 * OWNERS * (FRONT + 5) + 3 * (COUNTED_MAX + 10)
