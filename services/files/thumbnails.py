"""Makes a thumbnail of every completed asset soon after: a WebP of an image, or of a frame in a video's first half.

Pending assets are read from the view in each round, and tries are counted in Postgres, so a restart forgets nothing.
Completing an asset never waits for this, and a failure here never changes the asset.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from domain.codec import UnknownEvent
from domain.commands import ThumbnailAsset
from domain.errors import Refused
from domain.events import AssetThumbnailed
from domain.recipes.recipe import Kind
from projections.sql import load
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.files.blobs import BlobMissing, Blobs, BlobStoreUnavailable
from services.files.decoders.bounded import DecodingUnavailable, probe, small_picture
from services.files.media.kinds import SmallPicture, UnreadableMedia
from services.ledger import ASSET, Context, Instruction, Ledger
from services.messaging.broker import Broker
from services.messaging.follower import follow
from services.observability import telemetry
from services.observability.logs import about, about_job
from services.observability.metrics import THUMBNAILS_TRIED

log = logging.getLogger(__name__)

SQL = load("thumbnails.sql", "services.files")

THUMBNAILS: Final = Context("thumbnails")

SIDE_PX_MAX: Final = 512
"""Maximum pixels of the longer side: a column of an image grid on a screen of double density. Nothing is enlarged."""

QUALITY: Final = 80
"""WebP quality, 0 … 100: Pillow's default."""

CLAIMS_MAX: Final = 16
"""Maximum number of assets claimed and recorded together: separately, each would cost a claim and a commit."""

KEEP_S: Final = 0.2
"""Seconds after which finished thumbnails are recorded, so that they do not wait for a slow one."""

GROUP_S_MAX: Final = 5.0
"""Seconds after which the rest of a group is given back, so that a stopping service waits only for this and the current
asset, and no claim expires."""

CLAIM_S: Final = 60.0
"""Seconds for which an asset is claimed: longer than the slowest thumbnail, so that another instance starts only after
a crash, and long enough for the view to show the thumbnail."""

TRIES_MAX: Final = 10
RETRY_S_FIRST: Final = 2.0
RETRY_S_MAX: Final = 900.0
"""Maximum seconds between two tries; the pause doubles. Ten tries take a quarter of an hour, then the asset is given
up. Only an unavailable object store is tried forever, at the longest pause."""

REASON_CHARACTERS_MAX: Final = 500

FORESEEN: Final = (
    BlobMissing,
    BlobStoreUnavailable,
    UnreadableMedia,
    Refused,
    UnknownEvent,
    OSError,
    DecodingUnavailable,
)
"""Expected failures, logged without a stack."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A completed asset, and the number of this try."""

    asset_id: UUID
    job_id: UUID
    owner: str
    kind: str
    path: str
    tries: int


class Thumbnailer:
    """Several may run: each asset is tried by one of them at a time, and the ledger accepts one thumbnail per asset."""

    def __init__(self, database: Database, ledger: Ledger, broker: Broker, blobs: Blobs) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._blobs = blobs
        self._started = False

    async def run(self, stop: asyncio.Event) -> None:
        """Make thumbnails until stopped; waits out outages of Postgres and NATS."""
        await follow("thumbnailer", self.step, self._broker, stop)

    async def step(self) -> int:
        """Try the next assets; returns their number. Decoding runs in a separate thread."""
        return await asyncio.to_thread(self.try_due)

    def try_due(self) -> int:
        """Try the due assets, oldest completion first; returns their number."""
        claimed = self._claim()
        if claimed:
            reached(Point.THUMBNAILS_AFTER_CLAIM)
        made: dict[Claimed, AssetThumbnailed] = {}
        began = kept_at = time.monotonic()
        tried = 0
        while tried < len(claimed) and (not tried or time.monotonic() - began < GROUP_S_MAX):
            one = claimed[tried]
            tried += 1
            with _about(one):
                thumbnail = self._try(one)
            if thumbnail is not None:
                made[one] = thumbnail
            if time.monotonic() - kept_at > KEEP_S:
                self._keep(made)
                made, kept_at = {}, time.monotonic()
        self._keep(made)
        self._give_back(claimed[tried:])
        return tried

    def _try(self, claimed: Claimed) -> AssetThumbnailed | None:
        try:
            with telemetry.job_span("thumbnail", claimed.job_id, {"darkroom.asset_id": str(claimed.asset_id)}):
                return self._make(claimed)
        except Exception as error:
            self._put_off(claimed, error)
            return None

    def _keep(self, made: Mapping[Claimed, AssetThumbnailed]) -> None:
        """Append the thumbnails to the ledger. Raises `Unavailable`; the claims then expire."""
        now = datetime.now(UTC)
        asked = [Instruction(ASSET, one.asset_id, ThumbnailAsset(made[one], now), THUMBNAILS) for one in made]
        for one, outcome in zip(made, self._ledger.execute_each(asked), strict=True):
            if isinstance(outcome, Unavailable):
                raise outcome
            if isinstance(outcome, Exception):
                with _about(one):
                    self._put_off(one, outcome)
            else:
                THUMBNAILS_TRIED.labels("made").inc()

    def _give_back(self, claimed: Sequence[Claimed]) -> None:
        if claimed:
            with self._database.connection() as connection:
                connection.execute(SQL["give_back"], {"asset_ids": [one.asset_id for one in claimed]})

    def _claim(self) -> list[Claimed]:
        with self._database.connection() as connection:
            if not self._started:
                connection.execute(SQL["once_more"], {"tries_max": TRIES_MAX})
                self._started = True
            arguments = {"tries_max": TRIES_MAX, "claims_max": CLAIMS_MAX, "claim_s": CLAIM_S}
            rows = connection.execute(SQL["claim"], arguments).fetchall()
            if not rows:
                connection.execute(SQL["sweep"])
        return [Claimed(*row) for row in rows]

    def _make(self, claimed: Claimed) -> AssetThumbnailed:
        path = thumbnail_path(claimed.owner, claimed.asset_id)
        made = thumbnail_of(self._blobs.get(claimed.path), Kind(claimed.kind))
        if not self._blobs.put_once(path, made.content):
            there = self._blobs.get(path)  # from a try that ended before its commit
            found = probe(there)
            made = SmallPicture(there, found.width or 0, found.height or 0)
        reached(Point.THUMBNAILS_AFTER_FILE)
        sha256 = hashlib.sha256(made.content).hexdigest()
        return AssetThumbnailed(sha256=sha256, bytes=len(made.content), width=made.width, height=made.height, path=path)

    def _put_off(self, claimed: Claimed, error: Exception) -> None:
        """Schedule the next try, or give up. The asset itself does not change."""
        if not isinstance(error, FORESEEN):
            log.error("asset %s: making its thumbnail failed unexpectedly", claimed.asset_id, exc_info=error)
        THUMBNAILS_TRIED.labels("put_off").inc()
        store_is_away = isinstance(error, BlobStoreUnavailable | OSError | DecodingUnavailable)
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


def _about(claimed: Claimed) -> about:
    return about_job(claimed.job_id, asset_id=claimed.asset_id, owner=claimed.owner)


def thumbnail_path(owner: str, asset_id: UUID) -> str:
    """The path of an asset's thumbnail in the object store."""
    return f"thumbnails/{owner}/{asset_id}.webp"


def thumbnail_of(content: bytes, kind: Kind) -> SmallPicture:
    """The thumbnail of an image, or of a frame of a video; at most `SIDE_PX_MAX` a side.

    Raises `UnreadableMedia` and `DecodingUnavailable`.
    """
    return small_picture(content, is_video=kind is Kind.VIDEO, side_max=SIDE_PX_MAX, quality=QUALITY)


def pause_after(tries: int) -> float:
    """Seconds until the next try after `tries` failed ones."""
    return float(min(RETRY_S_MAX, RETRY_S_FIRST * 2 ** (tries - 1)))
