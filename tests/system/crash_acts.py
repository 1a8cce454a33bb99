"""What goes on while a process dies in the crash matrix, and what must hold afterwards next to the invariants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx

from domain.recipes.recipe import asset_id
from services.files.thumbnails import thumbnail_path
from services.messaging.wire import CancelConfirmedReport, StartedReport
from tests.gpu_worker.hosting import Plan
from tests.services.pictures import png
from tests.system.crash_scene import Scene


def nothing(_: Scene) -> None:
    """Nothing has to happen."""


@dataclass(frozen=True)
class Act:
    """What goes on: `before`, while the service still runs; `during`, until it dies; `after`, when it runs again."""

    words: str
    during: Callable[[Scene], None] = nothing
    before: Callable[[Scene], None] = nothing
    after: Callable[[Scene], None] = nothing


def _submit(scene: Scene) -> None:
    scene.submit()


def _submit_three(scene: Scene) -> None:
    scene.submit(quantity=3)


def _order_three(scene: Scene) -> None:
    scene.watch_orders()
    scene.submit(quantity=3)


def one_is_paid_twice(scene: Scene) -> None:
    """The output whose order the ledger never heard of is ordered again, and the first order never asked for."""
    scene.come_to_rest()
    lost, *orders = scene.ordered()
    assert lost.asked == 0
    assert len({one.inputs["seed"] for one in orders}) == len(orders) == 3
    assert lost.inputs["seed"] in {one.inputs["seed"] for one in orders}
    scene.paid_twice.add(lost.id)


def each_is_asked_for(scene: Scene) -> None:
    """Also the one that the dead worker had ordered: by the id that the ledger has."""
    scene.come_to_rest()
    assert [one.asked > 0 for one in scene.ordered()] == [True] * 3


def _submit_two_jobs(scene: Scene) -> None:
    scene.submit()
    scene.submit()


def _open_batch(scene: Scene) -> None:
    said = [scene.submission() for _ in range(2)]

    def told(answer: httpx.Response) -> None:
        for (submission, _), item in zip(said, answer.json()["items"], strict=True):
            submission.answer, submission.job_id = "accepted", item["job_id"]

    body = {"kind": "batch", "name": "foxes", "items": [body for _, body in said]}
    scene.call("POST", "/v1/batches", told, json=body, headers={"Idempotency-Key": f"batch-{said[0][0].tag}"})


def _submit_for_nobody(scene: Scene) -> None:
    """No worker takes jobs of its pool."""
    scene.submit(job_type="video_fast")


def _cancel(scene: Scene) -> None:
    scene.cancel(scene.said[-1].job_id)


def _upload(scene: Scene) -> None:
    scene.upload(png(colour=(*divmod(len(scene.said), 256), len(scene.uploads))))


def _upload_and_delete(scene: Scene) -> None:
    _upload(scene)
    scene.call("DELETE", f"/v1/uploads/{scene.uploads[-1]}")


def _trash_an_image(scene: Scene) -> None:
    """It is completed, with its thumbnail, and put into the trash."""
    job_id = scene.submit().job_id
    asset = asset_id(UUID(job_id), 0)
    scene.until(lambda: scene.count("asset.thumbnailed", [str(asset)]) == 1)
    scene.call("DELETE", f"/v1/assets/{asset}")


def _purge(scene: Scene) -> None:
    scene.call("POST", f"/v1/assets/{asset_id(UUID(scene.said[-1].job_id), 0)}/purge")


def _its_files_are_gone(scene: Scene) -> None:
    job_id = scene.said[-1].job_id
    asset = asset_id(UUID(job_id), 0)
    owner = scene.path_of(job_id).split("/")[1]
    files = [scene.file(scene.path_of(job_id)), scene.file(thumbnail_path(owner, asset))]
    scene.until(lambda: not any(file.exists() for file in files))


def _lose_work(scene: Scene) -> None:
    scene.fleet.stop_one("dispatcher")
    scene.submit()
    scene.lose_work()


def _lose_a_message(scene: Scene) -> None:
    scene.submit()
    scene.lose_a_message()


def _consumers_are_back(scene: Scene) -> None:
    scene.until(scene.has_consumers)


def _outdate(scene: Scene) -> None:
    """As if the rows had been made by an older version of the code."""
    scene.fleet.stop_one("projector")
    scene.rows("update view_progress set version = 0 where view = 'library'")


def _is_up_to_date(scene: Scene) -> None:
    scene.until(lambda: scene.rows("select version > 0 from view_progress where view = 'library'") == [(True,)])


def _overdue(scene: Scene) -> None:
    scene.submit(job_type="video_fast", **{"Cancel-After": "1s"})


def _was_aborted(scene: Scene) -> None:
    scene.until(lambda: scene.count("job.aborted", [scene.said[-1].job_id]) == 1)


def _two_lost_workers(scene: Scene) -> None:
    """Two jobs whose worker is not heard of any more."""
    for _ in range(2):
        job_id = UUID(scene.submit(job_type="video_fast").job_id)
        scene.ghost_says(StartedReport(job_id=job_id, attempt=1))


def _both_are_requeued(scene: Scene) -> None:
    jobs = [submission.job_id for submission in scene.said[-2:]]
    scene.until(lambda: scene.count("job.requeued", jobs) == len(jobs))
    for job_id in jobs:
        scene.cancel(job_id)


def _leave_a_file(scene: Scene) -> None:
    """A worker stored a file, heard of the cancel, and was gone; a minute later."""
    scene.fleet.stop_one("reaper")
    job = scene.submit(job_type="video_fast").job_id
    about = {"job_id": UUID(job), "attempt": 1}
    scene.ghost_says(StartedReport.model_validate(about))
    assert scene.blobs.put_once(scene.path_of(job), b"nobody wants this")
    scene.cancel(job)
    scene.ghost_says(CancelConfirmedReport.model_validate(about))
    scene.rows("update ledger_commits set committed_at = committed_at - interval '2 minutes'")


def _the_file_is_gone(scene: Scene) -> None:
    path = scene.file(scene.path_of(scene.said[-1].job_id))
    scene.until(lambda: not path.exists())


def _claims_run_out(scene: Scene) -> None:
    """A minute later."""
    scene.rows("update thumbnail_tries set next_try_at = clock_timestamp()")


def _cancel_while_files_are_reported(scene: Scene) -> None:
    """All files are stored and the first is being reported when the cancel comes: nobody wants the others any more."""
    known = set(scene.hosting.predictions)
    scene.hosting.plans.extend(Plan(polls=4) for _ in range(3))
    job = scene.submit(quantity=3, steps=20).job_id
    paths = [scene.file(scene.path_of(job, index)) for index in range(3)]
    # The worker asks how they are once the recorder has answered what there was to say; they take some questions more.
    scene.until(lambda: sum(scene.hosting.polls(each) > 0 for each in scene.hosting.predictions.keys() - known) == 3)
    scene.pause("reaper", "recorder")
    scene.until(lambda: all(path.exists() for path in paths))
    scene.cancel(job)
    scene.go_on("recorder")


def _reaper_goes_on(scene: Scene) -> None:
    scene.go_on("reaper")


SUBMIT: Final = Act("a job is submitted", _submit)
THREE: Final = Act("a job of three images is submitted", _submit_three)
BATCH: Final = Act("a batch is submitted", _open_batch)
CANCEL: Final = Act("a job is canceled", _cancel, before=_submit_for_nobody)
UPLOAD: Final = Act("a picture is uploaded", _upload)
DELETION: Final = Act("an upload is deleted", _upload_and_delete)
PURGE: Final = Act("an asset is purged", _purge, before=_trash_an_image, after=_its_files_are_gone)
TWO_JOBS: Final = Act("two jobs wait", _submit_two_jobs)
LOST_WORK: Final = Act("NATS lost WORK", before=_lose_work, after=_consumers_are_back)
LOST_MESSAGE: Final = Act("NATS lost a message of LEDGER", _lose_a_message)
OUTDATED: Final = Act("a view of an older version is rebuilt", before=_outdate, after=_is_up_to_date)
DEADLINE: Final = Act("a deadline passes", _overdue, after=_was_aborted)
LOST_WORKERS: Final = Act("two workers are lost", _two_lost_workers, after=_both_are_requeued)
LEFT_FILE: Final = Act("a canceled job left a file", before=_leave_a_file, after=_the_file_is_gone)
OLDER_BACKUP: Final = Act("an older backup of Postgres is in place")
THUMBNAIL: Final = Act("an image is completed", _submit, after=_claims_run_out)
WORK: Final = Act("a job of three images is worked on", _submit_three)
LATE_CANCEL: Final = Act("a job with stored files is canceled", _cancel_while_files_are_reported, after=_reaper_goes_on)

HOSTED: Final = {"Replicate": "replicate:darkroom/demo", "fal": "fal:fal-ai/flux"}


def order(provider: str, after: Callable[[Scene], None]) -> Act:
    """The worker has its model there from now on."""

    def move(scene: Scene) -> None:
        scene.fleet.give("worker", DARKROOM_MODELS=f"sdxl-demo={HOSTED[provider]}")

    def after_all(scene: Scene) -> None:
        after(scene)
        assert scene.providers_of(scene.said[-1].job_id) == [provider.lower()] * 3

    return Act(f"three images are ordered from {provider}", _order_three, before=move, after=after_all)


REBUILD: Final = Act("a view is rebuilt by hand while a job runs", _submit)
MIGRATION: Final = Act("an empty database is migrated")
IMPORT: Final = Act("everything is imported into an empty installation")
