"""The queries over `scores` and `prompts`: rows of one owner, in their order, and never a scan over everybody's."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from projections.reads import scores as score_reads
from projections.reads.scores import PromptFilter, Standing
from services.database import Database
from services.views.owned_views import OwnedViews, logging_in_as_role
from tests.histories import Story, Views
from tests.spec import OWNER

CROWD = """
insert into views.scores (owner, by, key, value, first_position, jobs, rated, distribution, mean, score, won, lost,
  strength, formula)
select 'owner ' || n % 20, 'prompt', encode(sha256(n::text::bytea), 'hex'), n::text, n, 1, 1, '{0,0,0,0,0}', 3,
  1 + n % 40000 / 10000.0, 0, 0, null, 1
from generate_series(1, 20000) as n;
insert into views.prompts (prompt_id, owner, title, prompt, prompt_sha256, model, task, tags, created_at, updated_at,
  saved_position)
select gen_random_uuid(), 'owner ' || n % 20, n::text, n::text, encode(sha256(n::text::bytea), 'hex'), 'sdxl', 't2i',
  array['tag ' || n % 7], now(), now(), n
from generate_series(1, 20000) as n;
analyze views.scores, views.prompts
"""


@pytest.fixture
def crowded(dsn: str, database: Database) -> Iterator[Connection[TupleRow]]:
    """What one of twenty owners reads with, each with a thousand rows."""
    with database.connection() as connection:
        connection.execute(CROWD)
    with OwnedViews(logging_in_as_role(dsn)) as owned, owned.of("owner 3") as reader:
        yield reader


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("list_scores", {"score": None, "rated": None, "position": None}),
        ("list_scores", {"score": 3.5, "rated": 1, "position": 7_000}),
        ("standing", {"key": "ab" * 32}),
        ("list_prompts", {}),
        ("list_prompts", {"before": 900, "task": "t2i", "tag": "tag 3", "words": "843 or 3"}),
        ("list_prompts", {"prompt_id": UUID(int=7)}),
    ],
)
def test_no_query_scans_a_view(crowded: Connection[TupleRow], query: str, asked: dict[str, object]) -> None:
    nothing = dict.fromkeys(("prompt_id", "before", "task", "tag", "words"))
    arguments = {"owner": "owner 3", "by": "prompt", "limit": 51} | nothing | asked
    plan = crowded.execute("explain " + score_reads.SQL[query], arguments).fetchall()
    lines = [str(line) for (line,) in plan]
    assert any("Index" in line for line in lines)
    assert [line for line in lines if "Seq Scan" in line] == []


def test_pages_of_scores_are_the_whole_list(crowded: Connection[TupleRow]) -> None:
    whole = score_reads.list_scores(crowded, "owner 3", "prompt", after=None, limit=2_000)
    places = [(row.score, row.rated, row.first_position) for row in whole]
    assert places == sorted(places, reverse=True)
    assert len(places) == 1_000
    paged = []
    after = None
    while page := score_reads.list_scores(crowded, "owner 3", "prompt", after=after, limit=333):
        paged += page
        after = (page[-1].score, page[-1].rated, page[-1].first_position)
    assert paged == whole


def test_a_prompt_stands_as_its_jobs_do_saved_or_not(dsn: str, story: Story, views: Views) -> None:
    for _ in range(2):
        story.submit(1, prompt="fog")
    saved = story.save_prompt("Harbour")
    views.catch_up()
    with OwnedViews(logging_in_as_role(dsn)) as owned, owned.of(OWNER) as reader:
        assert score_reads.standing_of(reader, OWNER, "fog") == Standing(2, None, 3.0)
        assert score_reads.standing_of(reader, OWNER, "Fog") == Standing()
        (row,) = score_reads.list_prompts(reader, OWNER, PromptFilter(words="harbour"))
        assert (row.prompt_id, row.usage_count, str(row.created_at.tzinfo)) == (saved, 0, "UTC")
