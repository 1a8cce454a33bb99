"""Deletes unwanted files: of assets without a file, of purged assets after a crash, and temporary files.

An asset may have failed or been canceled while a worker was about to report its file. A worker deletes such a file
itself when its report is refused; the sweeper handles workers that died before, or wrote late. Ended assets are read
from the ledger, so none is missed. An asset that failed or was canceled is never completed, so no needed file is
touched: neither that of a completed asset nor one that a later attempt of a waiting job will find and report. Temporary
files are those of writers that were killed.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from domain.aggregates.asset import CanceledAsset, FailedAsset, Purged
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.files.thumbnails import thumbnail_path
from services.ledger import Ledger
from services.observability import progress
from services.observability.parking import park

log = logging.getLogger(__name__)

SQL = load("sweeper.sql", "services.files")

LOOK_S: Final = 10.0
"""Seconds between two checks."""

AFTER_S: Final = (60.0, 86_400.0)
"""Seconds after its end at which an asset's file is searched for and deleted: once its last worker has stopped, and a
day later for a worker that was delayed and died before it could ask about the file."""

UNFINISHED_S: Final = 3_600.0
"""Maximum seconds to write a file."""

STRIDE: Final = 1_000
"""Number of ledger commits processed at a time."""


class Sweeper:
    """Several may run: deleting twice does no harm."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        blobs: Blobs,
        after_s: Sequence[float] = AFTER_S,
        unfinished_s: float = UNFINISHED_S,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._blobs = blobs
        self._after_s = tuple(after_s)
        self._unfinished_s = unfinished_s

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until stopped; waits out an outage of Postgres or of the object store."""
        said = progress.of("sweeper")
        while not stop.is_set():
            try:
                while await asyncio.to_thread(self.step) and not stop.is_set():
                    said.looked()
                said.looked()
            except (Unavailable, BlobStoreUnavailable, OSError) as error:
                log.warning("the sweeper waits: %s", error)
                said.waits(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()

    def step(self) -> int:
        """Process the next range of the ledger in every pass; returns the number of positions.

        Does nothing while writes are stopped: the lost events may name a file that the ledger considers unwanted.
        """
        if self._ledger.stopped():
            return 0
        self._blobs.remove_unfinished(self._unfinished_s)
        return sum(self._pass(number, after_s) for number, after_s in enumerate(self._after_s))

    def _pass(self, number: int, after_s: float) -> int:
        with self._database.connection() as connection:
            arguments = {"pass": number, "after_s": after_s, "stride": STRIDE}
            ((after, upto),) = connection.execute(SQL["stretch"], arguments).fetchall()
            if upto <= after:
                return 0
            stretch = {"reached": after, "upto": upto}
            ended = [asset for (asset,) in connection.execute(SQL["ended_without_file"], stretch).fetchall()]
        self._sweep_each(ended)
        if ended:
            reached(Point.SWEEPER_BEFORE_CHECKPOINT)
        with self._database.connection() as connection:
            # Last, so that files not deleted before a crash are deleted after it.
            connection.execute(SQL["advance"], {"pass": number, "upto": upto})
        return int(upto - after)

    def _sweep_each(self, assets: Sequence[UUID]) -> None:
        """Delete the remaining files of each asset. Raises `BlobStoreUnavailable` while the store is down.

        If the store accepts and deletes a test file but not this one, the fault is the file's own.
        """
        for asset in assets:
            try:
                self._sweep(asset)
            except (BlobStoreUnavailable, OSError, ValueError) as error:
                self._blobs.require_usable()
                park("sweeper", asset, f"the file of asset {asset} cannot be deleted: {error}")

    def _sweep(self, asset_id: UUID) -> None:
        try:
            asset = self._ledger.asset(asset_id)
        except Unavailable:
            raise
        except Exception as error:  # a fault of one asset must not affect the others
            park("sweeper", asset_id, f"the file of asset {asset_id} is left alone: {type(error).__name__}: {error}")
            return
        if isinstance(asset, FailedAsset | CanceledAsset):
            reached(Point.SWEEPER_BEFORE_DELETE)
            self._blobs.delete(asset.reservation.path)
        elif isinstance(asset, Purged):
            delete_files(self._blobs, asset_id, asset)


def delete_files(blobs: Blobs, asset_id: UUID, asset: Purged) -> None:
    """Delete a purged asset's file and thumbnail; missing ones are ignored. Raises `BlobStoreUnavailable`.

    The thumbnail is deleted even if no event names one: it may have been written at the moment of the purge.
    """
    blobs.delete(asset.reservation.path)
    blobs.delete(thumbnail_path(asset.reservation.owner, asset_id))
