"""Deletes files of assets that ended without one: failed, or canceled while a worker was about to report the file.
Those of purged assets where a crash came between. And what a writer that was killed left unfinished.

A worker deletes such a file itself when the ledger tells it that nobody wants it; this is for workers that died before
they asked, or wrote late. What ended is read from the ledger, so nothing is missed, and an asset that failed or was
canceled is never completed: no file that anybody wants is touched, neither a completed asset's nor one that a later
attempt of a waiting job will find and report.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from domain.asset import Canceled, Failed, Purged
from projections.sql import load
from services.blobs import Blobs, BlobStoreUnavailable
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.observability import progress
from services.observability.parking import park
from services.thumbnails import thumbnail_path

log = logging.getLogger(__name__)

SQL = load("sweeper.sql", "services")

LOOK_S: Final = 10.0
"""How often it looks. Nobody waits for it."""

AFTER_S: Final = (60.0, 86_400.0)
"""How long after its end an asset's file is looked for: when its last worker has stopped; and again a day later, for a
worker that was held up and died before it asked what to do with the file."""

UNFINISHED_S: Final = 3_600.0
"""Nobody takes so long to write a file."""

STRIDE: Final = 1_000
"""Commits of the ledger that are looked through at a time."""


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
        """Sweep until stopped; an outage of Postgres or of the object store is waited out."""
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
        """Look through the next stretch of the ledger in every pass; how many positions were passed.

        None while writes are stopped: the events that the ledger lost may name a file that it knows to be unwanted.
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
            # Last: what was not deleted before a crash is deleted after it.
            connection.execute(SQL["advance"], {"pass": number, "upto": upto})
        return int(upto - after)

    def _sweep_each(self, assets: Sequence[UUID]) -> None:
        """Delete what is left of each. Raises `BlobStoreUnavailable` while the store is away.

        A store that takes a file and deletes it is there: what it does not delete then is the file's own fault.
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
        except Exception as error:  # whatever is wrong with one asset, the others are looked after
            park("sweeper", asset_id, f"the file of asset {asset_id} is left alone: {type(error).__name__}: {error}")
            return
        if isinstance(asset, Failed | Canceled):
            reached(Point.SWEEPER_BEFORE_DELETE)
            self._blobs.delete(asset.reservation.path)
        elif isinstance(asset, Purged):
            delete_files(self._blobs, asset_id, asset)


def delete_files(blobs: Blobs, asset_id: UUID, asset: Purged) -> None:
    """Delete the file and the thumbnail of a purged asset; what is gone already is fine. Raises `BlobStoreUnavailable`.

    The thumbnail also where no event names one: it may have been written at the moment of the purge.
    """
    blobs.delete(asset.reservation.path)
    blobs.delete(thumbnail_path(asset.reservation.owner, asset_id))
