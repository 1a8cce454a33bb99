"""Work of services for a job is in the trace of the job or linked with it; read as a collector receives it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.recipes.recipe import asset_id
from projections import ALL
from projections.workspace import WORKSPACE
from services.database import Database
from services.files.blobs import Blobs
from services.files.thumbnails import Thumbnailer
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.observability.spans import LINKS_MAX, first_span_of
from services.observability.telemetry import exporting
from services.queue.reaper import Reaper
from services.views.projector import Projector
from tests.collector import Collected, Collector, collecting
from tests.histories import Story, Views
from tests.services.pictures import png
from tests.spec import OWNER, start

HOUR = timedelta(hours=1)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
        yield collected


@pytest.fixture
def long_ago(ledger: Ledger) -> Story:
    """The story as it was an hour ago."""
    return Story(ledger, lambda: datetime.now(UTC) - HOUR)


def begins_at_the_job(span: Collected, job_id: UUID) -> bool:
    """Whether it lies right below the span that a job's trace begins with."""
    return (span.trace_id, span.parent_id) == (job_id.hex, f"{first_span_of(job_id):016x}")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


def test_a_thumbnail_is_in_the_trace_of_its_job_and_so_is_a_try_that_failed(
    database: Database, ledger: Ledger, broker: Broker, views: Views, story: Story, blobs: Blobs, collector: Collector
) -> None:
    jobs = [story.finished(1), story.finished(1)]
    blobs.put_once(f"sdxl_image_fast/{OWNER}/{jobs[0]}_0.png", png())
    views.catch_up()
    thumbnailer = Thumbnailer(database, ledger, broker, blobs)
    with exporting("thumbnails"):
        assert [thumbnailer.try_due() for _ in range(2)] == [2, 0]
    made, failed = [one for one in collector.spans if one.name == "thumbnail"]
    assert begins_at_the_job(made, jobs[0])
    assert begins_at_the_job(failed, jobs[1])
    assert [one.attributes["darkroom.asset_id"] for one in (made, failed)] == [
        str(asset_id(job_id, 0)) for job_id in jobs
    ]
    assert (made.failed, failed.failed) == (False, True)
    assert failed.attributes["error.type"] == "blob_missing"


def test_a_job_that_lost_its_worker_and_one_that_is_overdue_show_the_reaper(
    database: Database,
    ledger: Ledger,
    broker: Broker,
    views: Views,
    story: Story,
    long_ago: Story,
    collector: Collector,
) -> None:
    lost, overdue = long_ago.submit(1), story.submit(1, deadline=datetime.now(UTC) - HOUR)
    long_ago.tell(lost, start(1))
    views.catch_up()
    reaper = Reaper(database, ledger, broker, lease_s=30)
    with exporting("reaper"):
        assert (reaper.abort_overdue(), reaper.expire_leases()) == ([overdue], [lost])
    by_name = {one.name: one for one in collector.spans if one.name != "ledger commit"}
    assert by_name.keys() == {"expire lease", "abort"}
    assert begins_at_the_job(by_name["expire lease"], lost)
    assert begins_at_the_job(by_name["abort"], overdue)
    assert by_name["expire lease"].attributes == {"darkroom.job_id": str(lost), "darkroom.attempt": 1}
    commits = [one for one in collector.spans if one.name == "ledger commit"]
    assert {one.parent_id for one in commits} == {one.span_id for one in by_name.values()}


def test_a_batch_that_is_projected_is_a_trace_of_its_own_linked_with_its_jobs(
    database: Database, ledger: Ledger, story: Story, collector: Collector
) -> None:
    jobs = [story.finished(2), story.submit(1)]
    story.save_prompt("a fox")  # of no job
    projector = Projector(database, ledger, ALL)
    with exporting("projector"):
        assert projector.step() == ledger.head()
        assert projector.step() == 0  # nothing, and no span of it
    (span,) = collector.spans
    assert (span.name, span.parent_id, span.failed) == ("project", "", False)
    assert span.links == [job_id.hex for job_id in jobs]
    assert span.trace_id not in span.links
    head = ledger.head()
    assert span.attributes == {"darkroom.events": head, "darkroom.jobs": 2, "darkroom.position": head}


def test_a_large_batch_has_so_many_links_and_no_more(
    database: Database, ledger: Ledger, story: Story, collector: Collector
) -> None:
    jobs = [story.submit(1) for _ in range(LINKS_MAX + 2)]
    with exporting("projector"):
        Projector(database, ledger, [WORKSPACE]).step()
    (span,) = collector.spans
    assert span.links == [job_id.hex for job_id in jobs[:LINKS_MAX]]
    assert span.attributes["darkroom.jobs"] == len(jobs)


def test_a_batch_is_not_linked_with_jobs_that_have_no_trace(
    database: Database, ledger: Ledger, story: Story, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    story.submit(1)
    with exporting("projector"):
        Projector(database, ledger, ALL).step()
    assert collector.spans == []
