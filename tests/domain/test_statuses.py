"""The statuses stand in one place; the schema of Postgres has copies, which are compared with it here."""

import re
from importlib import resources
from typing import get_args

from domain.aggregates.job import ENDED_AS
from domain.events import JobEnding
from domain.statuses import ENDED, ITEM_STATUSES, AssetStatus, JobStatus

CHECKS = re.compile(r"constraint (\w+_status_known) check \(\s*status in \(([^)]*)\)", re.DOTALL)


def test_the_schema_allows_these_statuses() -> None:
    """Of several versions of a constraint the last one counts."""
    found: dict[str, set[str]] = {}
    for file in sorted(resources.files("migrations").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".sql"):
            for name, listed in CHECKS.findall(file.read_text("utf-8")):
                found[name] = set(re.findall(r"'(\w+)'", listed))
    assert found["jobs_status_known"] == found["performance_status_known"] == set(get_args(JobStatus))
    assert found["batch_items_status_known"] == set(ITEM_STATUSES)
    assert found["assets_status_known"] == set(get_args(AssetStatus))


def test_a_job_ends_in_each_final_status_and_no_other() -> None:
    assert set(ENDED_AS) == set(get_args(JobEnding))
    assert set(ENDED_AS.values()) == ENDED
