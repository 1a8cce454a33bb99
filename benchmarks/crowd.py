"""Views with 100,000 assets of one owner and of 100 owners with 1,000 each, and what is asked of them by HTTP."""

from collections.abc import Mapping
from hashlib import md5
from typing import Final
from urllib.parse import quote_plus
from uuid import UUID

import psycopg

from api.http.pages import cursor_of
from projections.sql import load

SQL: Final = load("crowd.sql", "benchmarks")

JOBS: Final = 67_300
"""Of three assets each; those of even numbers are other owners'."""

POSITIONS_PER_JOB: Final = 12
OLD: Final = JOBS * POSITIONS_PER_JOB // 10
"""A position with nine tenths of everything above it."""


def fill(dsn: str) -> None:
    """Fill the views of a migrated database, and let Postgres know what is there. Takes about 12 s."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")  # a crash would only cost the benchmark
        for name, statement in SQL.items():
            connection.execute(statement, {"jobs": JOBS} if name == "jobs" else None)
        connection.execute("vacuum analyze")


def _made_up(text: str) -> UUID:
    return UUID(md5(text.encode(), usedforsecurity=False).hexdigest())


JOB: Final = _made_up(f"job {JOBS // 2 | 1}")
ASSET: Final = _made_up(f"{JOB} 0")

Paths = tuple[tuple[str, str], ...]

JOB_LISTS: Final[Paths] = (
    ("all", "/v1/jobs"),
    ("full page", "/v1/jobs?limit=200"),
    ("old page", f"/v1/jobs?cursor={cursor_of('jobs', OLD)}"),
    ("common status", "/v1/jobs?status=succeeded"),
    ("rare status", "/v1/jobs?status=failed"),
    ("waiting", "/v1/jobs?status=queued"),
    ("status of none", "/v1/jobs?status=canceled"),
    ("common type", "/v1/jobs?job_type=sdxl_image_fast"),
    ("type of the oldest", "/v1/jobs?job_type=video_fast"),
    ("type of none", "/v1/jobs?job_type=flux"),
    ("type and status", "/v1/jobs?job_type=sdxl_image_high&status=failed"),
    ("type and status of none", "/v1/jobs?job_type=video_fast&status=queued"),
    ("batch", f"/v1/jobs?batch_id={_made_up('batch 3')}"),
    ("batch and status", f"/v1/jobs?batch_id={_made_up('batch 3')}&status=failed"),
    ("common tag", "/v1/jobs?tag=sea"),
    ("tag of the oldest", "/v1/jobs?tag=clip"),
    ("rare tag", f"/v1/jobs?tag={quote_plus('Keep & frame')}"),
    ("tag of none", "/v1/jobs?tag=lost"),
    ("tag and status", "/v1/jobs?tag=sea&status=failed"),
)

LIBRARY: Final[Paths] = (
    ("all", "/v1/library"),
    ("full page", "/v1/library?limit=200"),
    ("old page", f"/v1/library?cursor={cursor_of('library', OLD)}"),
    ("word of all", "/v1/library?q=lighthouse"),
    ("word of all, old page", f"/v1/library?q=lighthouse&cursor={cursor_of('library', OLD)}"),
    ("word of the older half", "/v1/library?q=castle"),
    ("word of three", "/v1/library?q=unicorn"),
    ("word of none", "/v1/library?q=zebra"),
    ("two words", "/v1/library?q=castle+dusk"),
    ("two words, one rare", "/v1/library?q=lighthouse+unicorn"),
    ("rarer words", "/v1/library?q=word5+word10"),
    ("phrase", "/v1/library?q=" + quote_plus('"on a cliff"')),
    ("not a word of all", "/v1/library?q=-lighthouse"),
    ("either word", "/v1/library?q=unicorn+or+zebra"),
    ("common tag", "/v1/library?tag=sea"),
    ("tag of the oldest", "/v1/library?tag=clip"),
    ("rare tag", f"/v1/library?tag={quote_plus('Keep & frame')}"),
    ("tag of none", "/v1/library?tag=lost"),
    ("saved", "/v1/library?saved=true"),
    ("not saved", "/v1/library?saved=false"),
    ("common score", "/v1/library?min_score=1"),
    ("rare score", "/v1/library?min_score=5"),
    ("common kind", "/v1/library?kind=image"),
    ("kind of the oldest", "/v1/library?kind=video"),
    ("rare model", "/v1/library?model=qwen-demo"),
    ("model of none", "/v1/library?model=flux"),
    ("everything at once", "/v1/library?q=castle&tag=sea&saved=true&min_score=4&kind=image&model=sdxl-demo"),
    ("what never comes together", "/v1/library?kind=video&model=sdxl-demo&tag=sea"),
    ("trash", "/v1/library?trashed=true"),
    ("word of the trash", "/v1/library?trashed=true&q=unicorn"),
)

WORKSPACE: Final[Paths] = (
    ("all", "/v1/workspace"),
    ("full page", "/v1/workspace?limit=200"),
    ("old page", f"/v1/workspace?cursor={cursor_of('workspace', OLD, 1)}"),
)

DETAILS: Final[Paths] = (
    ("job", f"/v1/jobs/{JOB}"),
    ("history", f"/v1/jobs/{JOB}/history"),
    ("asset", f"/v1/assets/{ASSET}"),
)

SCORES: Final[Paths] = (("prompts", "/v1/scores?by=prompt"), ("full page", "/v1/scores?by=prompt&limit=200"))

PROMPTS: Final[Paths] = (
    ("all", "/v1/prompts"),
    ("old page", f"/v1/prompts?cursor={cursor_of('prompts', OLD)}"),
    ("word of all", "/v1/prompts?q=lighthouse"),
    ("word of none", "/v1/prompts?q=zebra"),
)
"""1,300 of admin, 67 of each of the others."""

BATCHES: Final[Paths] = (
    ("all", "/v1/batches"),
    ("full page", "/v1/batches?limit=200"),
    ("old page", f"/v1/batches?cursor={cursor_of('batches', OLD)}"),
    ("rare kind", "/v1/batches?kind=comparison"),
    ("collection of half", "/v1/batches?collection=Harbours"),
    ("collection of none", "/v1/batches?collection=lost"),
    ("word of all", "/v1/batches?q=regatta"),
    ("word of one", "/v1/batches?q=39998"),
    ("word of none", "/v1/batches?q=zebra"),
    ("one of forty jobs", f"/v1/batches/{_made_up('batch 3')}"),
)
"""20,168 of admin, of which 168 have jobs."""

LISTS: Final[Mapping[str, Paths]] = {
    "jobs": JOB_LISTS,
    "library": LIBRARY,
    "workspace": WORKSPACE,
    "batches": BATCHES,
    "details": DETAILS,
    "scores": SCORES,
    "prompts": PROMPTS,
}
"""What is asked, by list. Whatever else reads views for people belongs here: plans, times and benchmarks follow."""
