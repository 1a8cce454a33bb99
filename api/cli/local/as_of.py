"""`darkroom jobs --as-of` and `darkroom library --as-of`: the contents of a view at a position of the ledger.

Works directly on the database, like `darkroom rebuild VIEW --as-of`: the view is built in the schema `views_as_of`, and
the live views are not changed.
"""

from pathlib import Path
from typing import Final
from uuid import UUID

import orjson

import projections
from api.cli.local.operate import find_dsn, opened
from api.http.responses import encoded
from api.jobs.documents import job_document, listed_asset_document
from domain.json_type import Json
from projections.reads import as_of as as_of_reads
from projections.reads.jobs import JobFilter
from services.users import ADMIN
from services.views.rebuild import rebuild_as_of

VIEWS: Final = {view.name: view for view in projections.ALL}


def jobs_as_of(
    data_dir: Path | None,
    owner: str | None,
    position: int,
    *,
    status: str | None,
    job_type: str | None,
    batch_id: str | None,
    limit: int,
) -> list[Json]:
    """The jobs of the owner, by default of the administrator, as they were at `position`.

    Raises `PositionUnknown`, `RebuildRunning` and `NoDatabase`."""
    wanted = JobFilter(status, job_type, None if batch_id is None else UUID(batch_id))
    with opened(find_dsn(data_dir)) as (database, ledger):
        rebuild_as_of(database, ledger, VIEWS["jobs"], position)
        with database.connection() as connection:
            rows = as_of_reads.list_jobs(connection, owner or ADMIN, wanted, limit=limit)
            assets = as_of_reads.assets_of_jobs(connection, [row.job_id for row in rows])
    return [_plain(job_document(row, assets[row.job_id])) for row in rows]


def library_as_of(data_dir: Path | None, owner: str | None, position: int, *, limit: int) -> list[Json]:
    """The owner's library as it was at `position`. Raises what `jobs_as_of` raises."""
    with opened(find_dsn(data_dir)) as (database, ledger):
        rebuild_as_of(database, ledger, VIEWS["library"], position)
        with database.connection() as connection:
            rows = as_of_reads.list_library(connection, owner or ADMIN, limit=limit)
    return [_plain(listed_asset_document(row)) for row in rows]


def _plain(document: Json) -> Json:
    """The document as the API would answer it."""
    plain: Json = orjson.loads(encoded(document))
    return plain
