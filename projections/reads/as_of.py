"""Typed queries over views as of a position: the tables of `views_as_of`, filled by a rebuild to that position."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from projections.reads.jobs import PARTS, AssetRow, JobFilter, JobRow, ListedAssetRow
from projections.sql import load

SQL: Final = load("as_of.sql", "projections.reads", **PARTS)


def list_jobs(connection: Connection[TupleRow], owner: str, wanted: JobFilter, *, limit: int) -> list[JobRow]:
    """The owner's jobs as of the position, newest first."""
    arguments = {
        "owner": owner,
        "status": wanted.status,
        "job_type": wanted.job_type,
        "batch_id": wanted.batch_id,
        "limit": limit,
    }
    with connection.cursor(row_factory=class_row(JobRow)) as cursor:
        return cursor.execute(SQL["list_jobs"], arguments).fetchall()


def assets_of_jobs(connection: Connection[TupleRow], job_ids: Sequence[UUID]) -> dict[UUID, list[AssetRow]]:
    """The assets of each job by index."""
    found: dict[UUID, list[AssetRow]] = {job_id: [] for job_id in job_ids}
    with connection.cursor(row_factory=class_row(AssetRow)) as cursor:
        for row in cursor.execute(SQL["assets_of_jobs"], {"job_ids": list(job_ids)}):
            found[row.job_id].append(row)
    return found


def list_library(connection: Connection[TupleRow], owner: str, *, limit: int) -> list[ListedAssetRow]:
    """The owner's completed assets as of the position that were not in the trash, newest first."""
    with connection.cursor(row_factory=class_row(ListedAssetRow)) as cursor:
        return cursor.execute(SQL["list_library"], {"owner": owner, "limit": limit}).fetchall()
