"""Every completed asset gets one thumbnail, soon; what cannot be shown is tried again and holds up nobody."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from domain.aggregates.asset import Completed
from domain.aggregates.job import status_of
from domain.commands import RateAsset, TrashAsset
from domain.events import AssetThumbnailed
from domain.recipes.recipe import Kind, asset_id
from services.database import Database
from services.files import thumbnails
from services.files.blobs import Blobs
from services.files.thumbnails import CLAIMS_MAX, TRIES_MAX, Thumbnailer, thumbnail_path
from services.ledger import ASSET, Ledger, PostgresRecorder
from services.messaging.broker import Broker
from tests.histories import Story, Views, append_raw
from tests.services.beside import running, until
from tests.services.pictures import mp4, opened, png
from tests.spec import NOW, OWNER, TRANSIENT, report_completed, report_failed, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the object store keeps its files."""
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    """An object store of this test."""
    return Blobs(folder.as_uri())


@pytest.fixture
def make(database: Database, ledger: Ledger, broker: Broker, blobs: Blobs) -> Callable[..., Thumbnailer]:
    """An instance of the service, on this object store unless another is given."""
    return lambda store=blobs: Thumbnailer(database, ledger, broker, store)


@pytest.fixture
def thumbnailer(make: Callable[..., Thumbnailer]) -> Thumbnailer:
    """One instance."""
    return make()


@pytest.fixture
def finish(story: Story, views: Views, blobs: Blobs) -> Callable[..., UUID]:
    """A job of one asset with this file, or with none; the asset's id. The views have seen it."""

    def finish(content: bytes | None = None, kind: Kind = Kind.IMAGE) -> UUID:
        job_id = story.finished(1, kind=kind)
        if content is not None:
            blobs.put_once(path_of(job_id), content)
        views.catch_up()
        return asset_id(job_id, 0)

    return finish


def path_of(job_id: UUID, index: int = 0) -> str:
    """Where the file of an asset is."""
    return f"sdxl_image_fast/{OWNER}/{job_id}_{index}.png"


def thumbnails_of(ledger: Ledger, asset: UUID) -> list[AssetThumbnailed]:
    """What the ledger has, which must be one at most."""
    return [one.event for one in ledger.stream(asset) if isinstance(one.event, AssetThumbnailed)]  # type: ignore[union-attr]


def hurry(views: Views) -> None:
    """Let every pause have passed."""
    views.ask("update thumbnail_tries set next_try_at = clock_timestamp()")


def try_all(thumbnailer: Thumbnailer) -> int:
    """Everything that is due; how many were tried."""
    tried = 0
    while now := thumbnailer.try_due():
        tried += now
    return tried


def tries(views: Views) -> dict[UUID, tuple[int, str | None]]:
    """What has not come to an end: tries and why the last one failed."""
    return {
        asset: (count, why) for asset, count, why in views.ask("select asset_id, tries, reason from thumbnail_tries")
    }


# What it makes.


async def test_a_completed_image_gets_its_thumbnail_while_the_service_runs(
    ledger: Ledger, views: Views, blobs: Blobs, thumbnailer: Thumbnailer, finish: Callable[..., UUID]
) -> None:
    async with running(thumbnailer.run):
        asset = finish(png(1024, 768))
        await until(lambda: thumbnails_of(ledger, asset))
    (made,) = thumbnails_of(ledger, asset)
    content = blobs.get(made.path)
    assert made.path == thumbnail_path(OWNER, asset) == f"thumbnails/{OWNER}/{asset}.webp"
    assert (made.sha256, made.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert opened(content).size == (made.width, made.height) == (512, 384)
    views.catch_up()
    for table in ("assets", "workspace", "library"):
        (row,) = views.rows(table)
        shown = (row["thumbnail_sha256"], row["thumbnail_path"], row["thumbnail_bytes"])
        assert shown == (made.sha256, made.path, made.bytes)


def test_a_video_gets_a_poster(
    ledger: Ledger, blobs: Blobs, thumbnailer: Thumbnailer, finish: Callable[..., UUID]
) -> None:
    asset = finish(mp4([0, 90, 180, 180], 640, 360), Kind.VIDEO)
    assert thumbnailer.try_due()
    (made,) = thumbnails_of(ledger, asset)
    pixel = opened(blobs.get(made.path)).convert("RGB").getpixel((9, 9))
    assert (made.width, made.height) == (512, 288)
    assert isinstance(pixel, tuple)
    assert abs(pixel[0] - 90) < 6


def test_what_is_not_completed_is_left_alone(
    ledger: Ledger, story: Story, views: Views, thumbnailer: Thumbnailer
) -> None:
    job_id = story.submit(3)
    story.tell(job_id, start(1), report_failed(1, error=TRANSIENT))
    views.catch_up()
    head = ledger.head()
    assert try_all(thumbnailer) == 0
    assert (ledger.head(), tries(views)) == (head, {})


def test_a_trashed_asset_gets_its_thumbnail_too(
    ledger: Ledger, story: Story, views: Views, blobs: Blobs, thumbnailer: Thumbnailer
) -> None:
    job_id = story.finished(1)
    blobs.put_once(path_of(job_id), png())
    story.curate(job_id, 0, TrashAsset(NOW))
    views.catch_up()
    assert try_all(thumbnailer) == 1
    assert thumbnails_of(ledger, asset_id(job_id, 0))


def test_a_job_goes_on_while_its_first_assets_get_their_thumbnails(
    ledger: Ledger, story: Story, views: Views, blobs: Blobs, thumbnailer: Thumbnailer
) -> None:
    job_id = story.submit(3)
    story.tell(job_id, start(1))
    for index in range(3):
        blobs.put_once(path_of(job_id, index), png())
        story.tell(job_id, report_completed(index))
        views.catch_up()
        assert try_all(thumbnailer) == 1
    assert status_of(ledger.generation(job_id).job) == "succeeded"
    assert all(len(thumbnails_of(ledger, asset_id(job_id, index))) == 1 for index in range(3))


def test_those_completed_first_come_first_and_many_are_claimed_and_kept_together(
    ledger: Ledger,
    views: Views,
    thumbnailer: Thumbnailer,
    finish: Callable[..., UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.files.thumbnails.KEEP_S", 60.0)  # however long a busy machine takes
    monkeypatch.setattr("services.files.thumbnails.GROUP_S_MAX", 60.0)
    assets = [finish(png()) for _ in range(CLAIMS_MAX + 2)]
    head = ledger.head()
    assert [thumbnailer.try_due() for _ in range(3)] == [CLAIMS_MAX, 2, 0]
    made = [one.stream_id for one in ledger.read(head, 100)]
    assert made == assets
    assert views.ask("select count(*) from ledger_commits where last_position > %s", head) == [(2,)]


def test_one_that_takes_long_holds_up_no_other(
    ledger: Ledger,
    folder: Path,
    make: Callable[..., Thumbnailer],
    finish: Callable[..., UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = finish(png()), finish(png())
    kept_before: list[bool] = []

    class Slow(Blobs):
        """Notes, at every file, whether the first asset's thumbnail is in the ledger."""

        def get(self, path: str) -> bytes:
            kept_before.append(bool(thumbnails_of(ledger, first)))
            return super().get(path)

    monkeypatch.setattr(thumbnails, "KEEP_S", 0)  # as if each took longer
    assert make(Slow(folder.as_uri())).try_due() == 2
    assert kept_before == [False, True]
    assert thumbnails_of(ledger, second)


def test_what_is_left_of_a_group_that_takes_long_is_given_back(
    ledger: Ledger,
    views: Views,
    thumbnailer: Thumbnailer,
    finish: Callable[..., UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assets = [finish(png()) for _ in range(3)]
    with monkeypatch.context() as short:
        short.setattr(thumbnails, "GROUP_S_MAX", 0)
        assert thumbnailer.try_due() == 1
    assert [len(thumbnails_of(ledger, asset)) for asset in assets] == [1, 0, 0]
    assert tries(views) == {assets[0]: (1, None)}
    assert thumbnailer.try_due() == 2
    assert [len(thumbnails_of(ledger, asset)) for asset in assets] == [1, 1, 1]


def test_while_the_view_is_behind_nothing_is_made_again(
    ledger: Ledger, views: Views, make: Callable[..., Thumbnailer], finish: Callable[..., UUID]
) -> None:
    asset = finish(png())
    assert try_all(make()) == 1
    assert try_all(make()) == 0
    hurry(views)  # though it is behind for longer than that
    assert try_all(make()) == 1
    assert len(thumbnails_of(ledger, asset)) == 1
    views.catch_up()
    hurry(views)
    assert try_all(make()) == 0
    assert tries(views) == {}


# What fails.


def test_a_missing_file_is_tried_again_and_then_found(
    ledger: Ledger, story: Story, views: Views, blobs: Blobs, thumbnailer: Thumbnailer
) -> None:
    job_id = story.finished(1)
    asset = asset_id(job_id, 0)
    views.catch_up()
    head = ledger.head()
    assert try_all(thumbnailer) == 1  # and not again before its pause has passed
    assert tries(views) == {asset: (1, f"There is no file at {path_of(job_id)} in the object store.")}
    hurry(views)
    assert try_all(thumbnailer) == 1
    assert tries(views)[asset][0] == 2
    assert ledger.head() == head
    blobs.put_once(path_of(job_id), png())
    hurry(views)
    assert try_all(thumbnailer) == 1
    assert len(thumbnails_of(ledger, asset)) == 1
    views.catch_up()
    assert try_all(thumbnailer) == 0
    assert tries(views) == {}


def test_pauses_are_measured_by_postgres_clock_and_grow(
    views: Views, thumbnailer: Thumbnailer, finish: Callable[..., UUID]
) -> None:
    finish()
    pauses = []
    for _ in range(4):
        hurry(views)
        thumbnailer.try_due()
        ((pause_s,),) = views.ask(
            "select extract(epoch from next_try_at - clock_timestamp())::float from thumbnail_tries"
        )
        pauses.append(pause_s)
    for pause_s, expected_s in zip(pauses, (2, 4, 8, 16), strict=True):
        assert expected_s - 1.5 < pause_s <= expected_s


def test_a_broken_file_holds_up_nobody_and_its_asset_stays_completed(
    ledger: Ledger,
    story: Story,
    views: Views,
    thumbnailer: Thumbnailer,
    finish: Callable[..., UUID],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.files.thumbnails.RETRY_S_FIRST", 600.0)  # however long a busy machine takes
    broken = finish(png()[:90])
    whole = [finish(png()) for _ in range(3)]
    assert try_all(thumbnailer) == 4
    assert all(thumbnails_of(ledger, asset) for asset in whole)
    assert "damaged" in str(tries(views)[broken][1])
    for _ in range(TRIES_MAX + 3):
        hurry(views)
        views.catch_up()
        try_all(thumbnailer)
    assert tries(views)[broken][0] == TRIES_MAX
    (given_up,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"asset {broken} gets no thumbnail, which {TRIES_MAX} tries could not make" in given_up.getMessage()
    assert thumbnails_of(ledger, broken) == []
    (row,) = [row for row in views.rows("assets") if row["asset_id"] == broken]
    assert (row["status"], row["error"], row["thumbnail_sha256"]) == ("completed", None, None)
    executed = ledger.execute(ASSET, broken, RateAsset(5, NOW), thumbnails.THUMBNAILS)
    assert isinstance(executed.state, Completed)


def test_what_was_given_up_is_tried_once_more_at_the_next_start(
    ledger: Ledger, story: Story, views: Views, blobs: Blobs, make: Callable[..., Thumbnailer]
) -> None:
    job_id = story.finished(1)
    views.catch_up()
    for _ in range(TRIES_MAX):
        hurry(views)
        try_all(make())
    hurry(views)
    first = make()
    assert (try_all(first), try_all(first)) == (1, 0)
    blobs.put_once(path_of(job_id), png())
    hurry(views)
    assert try_all(first) == 0
    assert try_all(make()) == 1
    assert thumbnails_of(ledger, asset_id(job_id, 0))


def test_a_store_that_refuses_is_asked_for_ever(
    ledger: Ledger, views: Views, folder: Path, thumbnailer: Thumbnailer, finish: Callable[..., UUID]
) -> None:
    asset = finish(png())
    in_the_way = folder / "thumbnails"
    in_the_way.write_bytes(b"")
    for _ in range(TRIES_MAX + 3):
        hurry(views)
        assert try_all(thumbnailer) == 1
    assert "could not write" in str(tries(views)[asset][1])
    in_the_way.unlink()
    hurry(views)
    assert try_all(thumbnailer) == 1
    assert thumbnails_of(ledger, asset)


def test_an_unforeseen_failure_is_logged_with_its_stack_and_holds_up_nobody(
    ledger: Ledger,
    views: Views,
    folder: Path,
    make: Callable[..., Thumbnailer],
    finish: Callable[..., UUID],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(Blobs):
        """Fails in a way that nobody thought of, once."""

        failed = False

        def get(self, path: str) -> bytes:
            if not self.failed:
                self.failed = True
                raise LookupError("a\0surprise")
            return super().get(path)

    odd, fine = finish(png()), finish(png())
    thumbnailer = make(Odd(folder.as_uri()))
    assert try_all(thumbnailer) == 2
    assert tries(views)[odd] == (1, "asurprise")
    assert thumbnails_of(ledger, fine)
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_an_asset_whose_history_cannot_be_read_holds_up_nobody(
    ledger: Ledger,
    recorder: PostgresRecorder,
    views: Views,
    thumbnailer: Thumbnailer,
    finish: Callable[..., UUID],
) -> None:
    strange, fine = finish(png()), finish(png())
    append_raw(recorder, strange, 3, "asset.vanished.v1", b"{}")
    assert try_all(thumbnailer) == 2
    assert "cannot be read" in str(tries(views)[strange][1])
    assert thumbnails_of(ledger, fine)


# Restarts, and several at once.


@pytest.mark.parametrize("wrote", [False, True], ids=["before it wrote the file", "after it wrote the file"])
def test_what_a_killed_instance_had_begun_the_next_one_ends(
    ledger: Ledger,
    views: Views,
    blobs: Blobs,
    folder: Path,
    make: Callable[..., Thumbnailer],
    finish: Callable[..., UUID],
    wrote: bool,
) -> None:
    class Killed(Blobs):
        """Ends its process at the file."""

        def put_once(self, path: str, content: bytes) -> bool:
            if wrote:
                super().put_once(path, content)
            raise SystemExit

    begun = finish(png(300, 200))
    with pytest.raises(SystemExit):
        make(Killed(folder.as_uri())).try_due()
    later, after = finish(png()), make()
    assert try_all(after) == 1  # the other one: the first is still claimed
    assert (thumbnails_of(ledger, begun), len(thumbnails_of(ledger, later))) == ([], 1)
    hurry(views)
    views.catch_up()
    assert try_all(after) == 1
    (made,) = thumbnails_of(ledger, begun)
    assert made.sha256 == hashlib.sha256(blobs.get(made.path)).hexdigest()
    assert (made.width, made.height) == (300, 200)


def test_what_kills_its_process_is_not_tried_for_ever(
    views: Views, folder: Path, make: Callable[..., Thumbnailer], finish: Callable[..., UUID]
) -> None:
    class Deadly(Blobs):
        """Ends its process at every file."""

        def get(self, path: str) -> bytes:
            raise SystemExit

    asset = finish(png())
    for _ in range(TRIES_MAX):
        hurry(views)
        with pytest.raises(SystemExit):
            make(Deadly(folder.as_uri())).try_due()
    hurry(views)
    assert not make(Deadly(folder.as_uri())).try_due()
    assert tries(views) == {asset: (TRIES_MAX, None)}


def test_a_file_that_kills_its_process_costs_its_neighbours_one_try(
    ledger: Ledger, views: Views, folder: Path, make: Callable[..., Thumbnailer], finish: Callable[..., UUID]
) -> None:
    before, deadly, after = finish(png()), finish(png(9, 9)), finish(png())
    content = png(9, 9)

    class Deadly(Blobs):
        """Ends its process at one file."""

        def get(self, path: str) -> bytes:
            found = super().get(path)
            if found == content:
                raise SystemExit
            return found

    def try_all_again() -> None:
        with suppress(SystemExit):
            try_all(make(Deadly(folder.as_uri())))

    try_all_again()
    assert {asset: count for asset, (count, _) in tries(views).items()} == {before: 1, deadly: 1, after: 1}
    for _ in range(3):
        hurry(views)
        try_all_again()
        try_all_again()  # the deadly one is claimed
        views.catch_up()
    assert [len(thumbnails_of(ledger, asset)) for asset in (before, deadly, after)] == [1, 0, 1]
    assert tries(views)[deadly][0] == 4


def test_of_several_instances_each_asset_gets_one_thumbnail(
    ledger: Ledger, views: Views, make: Callable[..., Thumbnailer], finish: Callable[..., UUID]
) -> None:
    assets = [finish(png(width=40 + place)) for place in range(12)]

    def work(thumbnailer: Thumbnailer) -> int:
        tried = 0
        while not all(thumbnails_of(ledger, asset) for asset in assets):
            tried += thumbnailer.try_due()
        return tried

    with ThreadPoolExecutor(max_workers=3) as threads:
        tried = list(threads.map(work, [make(), make(), make()]))
    assert sum(tried) == len(assets)
    assert Counter(len(thumbnails_of(ledger, asset)) for asset in assets) == {1: len(assets)}
