"""Makes a thumbnail of every completed asset, soon after: a WebP of an image, of a video one frame of its first half.

What is still to be done is read from the view at each turn, and tries are counted in Postgres, so a restart forgets
nothing. Completing an asset never waits for this, and a failure here never touches the asset.
"""

import asyncio
import hashlib
import io
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from domain.codec import UnknownEvent
from domain.commands import ThumbnailAsset
from domain.errors import Refused
from domain.events import AssetThumbnailed
from domain.recipe import Kind
from projections.sql import load
from services import telemetry
from services.blobs import BlobMissing, Blobs, BlobStoreUnavailable
from services.broker import Broker
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.following import follow
from services.ledger import Context, Ledger
from services.logs import about_job
from services.media import UnreadableMedia, read_frame, read_image
from services.metrics import THUMBNAILS_TRIED

log = logging.getLogger(__name__)

SQL = load("thumbnails.sql", "services")

THUMBNAILS: Final = Context("thumbnails")

SIDE_PX_MAX: Final = 512
"""Of the longest side: a column of a wall of pictures, also on a screen of twice the density. Nothing is enlarged."""

QUALITY: Final = 80
"""Of WebP, 0 … 100: Pillow's own default."""

CLAIM_S: Final = 60.0
"""So long an asset is one instance's; longer than the slowest takes, so that another one begins only after a crash, and
long enough for the view to see the thumbnail."""

TRIES_MAX: Final = 10
RETRY_S_FIRST: Final = 2.0
RETRY_S_MAX: Final = 900.0
"""The pause after a failed try doubles; ten tries take a quarter of an hour, and then the asset is given up. Only an
object store that is away is asked for ever, at the longest pause."""

REASON_CHARACTERS_MAX: Final = 500

FORESEEN: Final = (BlobMissing, BlobStoreUnavailable, UnreadableMedia, Refused, UnknownEvent, OSError)
"""Failures that a sentence explains; any other is logged with its stack."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A completed asset that is tried now, and for the how manieth time."""

    asset_id: UUID
    job_id: UUID
    owner: str
    kind: str
    path: str
    tries: int


class Thumbnailer:
    """Several may run: each asset is tried by one of them at a time, and the ledger takes one thumbnail of it."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, blobs: Blobs) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._blobs = blobs
        self._started = False

    async def run(self, stop: asyncio.Event) -> None:
        """Make thumbnails until stopped; outages of Postgres and NATS are waited out."""
        await follow("thumbnailer", self.step, self._broker, stop)

    async def step(self) -> int:
        """Try the next asset; how many were tried. Decoding has a thread of its own and holds nobody up."""
        return int(await asyncio.to_thread(self.try_next))

    def try_next(self) -> bool:
        """Try the asset that was completed first of those that are due; False when none is."""
        claimed = self._claim()
        if claimed is None:
            return False
        reached(Point.THUMBNAILS_AFTER_CLAIM)
        with about_job(claimed.job_id, asset_id=claimed.asset_id, owner=claimed.owner):
            self._try(claimed)
        return True

    def _try(self, claimed: Claimed) -> None:
        try:
            said = {"darkroom.asset_id": str(claimed.asset_id)}
            with telemetry.job_span("thumbnail", claimed.job_id, said):
                command = ThumbnailAsset(self._make(claimed), datetime.now(UTC))
                self._ledger.execute_asset(claimed.asset_id, command, THUMBNAILS)
            THUMBNAILS_TRIED.labels("made").inc()
        except Unavailable:
            raise  # Postgres; the claim runs out by itself
        except FORESEEN as error:
            self._put_off(claimed, error)
        except Exception as error:
            log.exception("asset %s: making its thumbnail failed unexpectedly", claimed.asset_id)
            self._put_off(claimed, error)

    def _claim(self) -> Claimed | None:
        with self._database.connection() as connection:
            if not self._started:
                connection.execute(SQL["once_more"], {"tries_max": TRIES_MAX})
                self._started = True
            row = connection.execute(SQL["claim"], {"tries_max": TRIES_MAX, "claim_s": CLAIM_S}).fetchone()
            if row is None:
                connection.execute(SQL["sweep"])
        return None if row is None else Claimed(*row)

    def _make(self, claimed: Claimed) -> AssetThumbnailed:
        path = thumbnail_path(claimed.owner, claimed.asset_id)
        content = thumbnail_of(self._blobs.get(claimed.path), Kind(claimed.kind))
        if not self._blobs.put_once(path, content):
            content = self._blobs.get(path)  # of a try that ended before the ledger had it
        reached(Point.THUMBNAILS_AFTER_FILE)
        width, height = read_image(content).size
        sha256 = hashlib.sha256(content).hexdigest()
        return AssetThumbnailed(sha256=sha256, bytes=len(content), width=width, height=height, path=path)

    def _put_off(self, claimed: Claimed, error: Exception) -> None:
        """Try again later, or never. The asset stays as it is either way."""
        THUMBNAILS_TRIED.labels("put_off").inc()
        store_is_away = isinstance(error, BlobStoreUnavailable | OSError)
        tries = min(claimed.tries, TRIES_MAX - 1) if store_is_away else claimed.tries
        pause_s = pause_after(tries)
        reason = (str(error) or type(error).__name__).replace("\0", "")[:REASON_CHARACTERS_MAX]
        arguments = {"asset_id": claimed.asset_id, "tries": tries, "pause_s": pause_s, "reason": reason}
        with self._database.connection() as connection:
            connection.execute(SQL["failed"], arguments)
        if tries < TRIES_MAX:
            log.warning("asset %s has no thumbnail yet; tried again in %g s: %s", claimed.asset_id, pause_s, reason)
        else:
            log.error(
                "asset %s gets no thumbnail, which %d tries could not make; the next start of the service tries once "
                "more: %s", claimed.asset_id, tries, reason,
            )  # fmt: skip


def thumbnail_path(owner: str, asset_id: UUID) -> str:
    """Where the thumbnail of an asset lives in the object store."""
    return f"thumbnails/{owner}/{asset_id}.webp"


def thumbnail_of(content: bytes, kind: Kind) -> bytes:
    """Return a WebP of a picture, or of a frame of a video, at most `SIDE_PX_MAX` a side. Raises `UnreadableMedia`."""
    image = read_frame(content) if kind is Kind.VIDEO else read_image(content)
    image.thumbnail((SIDE_PX_MAX, SIDE_PX_MAX))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def pause_after(tries: int) -> float:
    """Seconds until the next try after `tries` that failed."""
    return float(min(RETRY_S_MAX, RETRY_S_FIRST * 2 ** (tries - 1)))
