"""Lists answer at once where one owner has 100,000 assets: within 50 ms at the 95th percentile on two quiet cores.

Other programs have these cores as well while tests run, so the median is held to four times that; `python -m
benchmarks.lists` measures it properly.
"""

import time

import httpx
import psycopg
import pytest

from benchmarks.crowd import LISTS

MEDIAN_MS_MAX = 200
REQUESTS = 20


@pytest.fixture
def dsn(crowd_dsn: str) -> str:
    """Large views."""
    return crowd_dsn


@pytest.mark.parametrize("list_name", LISTS)
async def test_a_list_is_quick_whatever_is_asked(http: httpx.AsyncClient, list_name: str) -> None:
    slow: dict[str, float] = {}
    for name, path in LISTS[list_name]:
        taken = [await milliseconds(http, path) for _ in range(2 + REQUESTS)]
        measured = sorted(taken[2:])  # the first ones warm up
        p50, p95 = measured[REQUESTS // 2], measured[REQUESTS * 95 // 100 - 1]
        print(f"{list_name}: {name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
        if p50 > MEDIAN_MS_MAX:
            slow[name] = p50
    assert slow == {}


async def milliseconds(http: httpx.AsyncClient, path: str) -> float:
    """How long the answer took."""
    began = time.perf_counter()
    response = await http.get(path)
    took = (time.perf_counter() - began) * 1000
    assert response.status_code == 200, response.text
    return took


@pytest.mark.parametrize(
    ("asked", "condition"),
    [
        ("saved=true", "saved and not trashed"),
        ("q=castle&tag=clip", "words @@ 'castle' and tags @> '{clip}' and not trashed"),
        ("q=word9", "words @@ 'word9' and not trashed"),
        ("min_score=5", "rating = 5 and not trashed"),
        ("trashed=true", "trashed"),
    ],
)
async def test_the_pages_together_are_all_of_it_in_order(
    http: httpx.AsyncClient, dsn: str, asked: str, condition: str
) -> None:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select asset_id::text from views.library where owner = 'admin' and status = 'completed' "
            f"and {condition} order by completed_position desc"
        ).fetchall()
    seen: list[str] = []
    following = ""
    while following is not None:
        page = (await http.get(f"/v1/library?{asked}&limit=200{following and f'&cursor={following}'}")).json()
        seen += [asset["id"] for asset in page["results"]]
        following = page["next"]
    assert len(rows) > 10
    assert seen == [identifier for (identifier,) in rows]
