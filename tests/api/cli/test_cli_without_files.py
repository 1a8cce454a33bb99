"""Assets without a file, batches under their ids, and options that do nothing: each command says what is so."""

from pathlib import Path
from uuid import uuid4

import pytest

from api.cli.tables import job_lines, what_happened
from domain.json_type import Json
from tests.api.cli.running import Run, answer, lines
from tests.api.serving import Site


async def of_every_outcome(site: Site) -> Json:
    """A job that runs: its first output is completed, its second failed, its third not made yet."""
    job = await site.submit()
    await site.start(job)
    await site.complete(job, 0)
    await site.fail(job, 1)
    return await site.get(f"/v1/jobs/{job['id']}")


async def purge(site: Site, asset: Json) -> None:
    """Delete it for good."""
    await site.http.delete(f"/v1/assets/{asset['id']}")
    await site.http.post(f"/v1/assets/{asset['id']}/purge")
    await site.get("/v1/jobs")


async def test_an_asset_without_a_file_is_shown_with_its_status_and_error(run: Run, site: Site) -> None:
    job = await of_every_outcome(site)
    await purge(site, job["assets"][0])
    for index, status in enumerate(("purged", "failed", "reserved")):
        for name in (f"{job['id']}/{index}", job["assets"][index]["id"]):
            shown = await lines(run, "show", name)
            assert f"status    {status}" in shown
            assert not [line for line in shown if line.startswith("file ")]
    failed = await lines(run, "show", f"{job['id']}/1")
    assert "error     The prompt has no end. (invalid_input)" in failed
    canceled = await site.submit()
    await run("cancel", canceled["id"])
    await site.get("/v1/jobs")
    assert "status    canceled" in await lines(run, "show", f"{canceled['id']}/0")


async def test_a_download_names_what_has_no_file(run: Run, site: Site, tmp_path: Path) -> None:
    job = await of_every_outcome(site)
    out = ("--out", str(tmp_path / "out"))
    done = await run("download", job["id"], *out)
    assert done.stdout == f"{tmp_path / 'out' / job['id']}_0.png\n"
    assert done.stderr == (
        f"darkroom: Job {job['id']} has no file of output 1: failed.\n"
        f"darkroom: Job {job['id']} has no file of output 2: not made yet.\n"
    )
    other = await site.finished()
    for asset in other["assets"]:
        await purge(site, asset)
    for name, outputs in ((other["id"], "0, 1, 2"), (f"{other['id']}/1", "1")):
        gone = await run("download", job["id"], name, *out, status=1)
        assert f"Job {other['id']} has no file of output {outputs}: deleted for good.\n" in gone.stderr


async def a_batch(run: Run, site: Site, tmp_path: Path) -> tuple[str, Json]:
    """The id of a batch of two jobs and a rejected item, and the first job, which is finished."""
    file = tmp_path / "cards.csv"
    file.write_text("template,prompt,quantity\nfox,a fox,1\ntwo,a hen,2\nhen,a hen,3\n", encoding="utf-8")
    made = (await run("batch", str(file), "--json", status=1)).stdout
    batch_id = made.partition('"id": "')[2].partition('"')[0]
    document = await site.get(f"/v1/batches/{batch_id}")
    job = await site.get(f"/v1/jobs/{document['items'][0]['job_id']}")
    await site.start(job)
    await site.complete(job, 0)
    return batch_id, await site.get(f"/v1/jobs/{job['id']}")


async def test_a_batch_is_shown_downloaded_canceled_and_retried_by_its_id(run: Run, site: Site, tmp_path: Path) -> None:
    batch_id, job = await a_batch(run, site, tmp_path)
    shown = await lines(run, "show", batch_id)
    assert shown[:2] == [f"batch     {batch_id}", "name      cards"]
    assert f"  0  {job['id']}  succeeded (fox)" in shown
    assert [line for line in shown if line.startswith("  1  rejected (two): ")]
    assert (await answer(run, "show", batch_id))["id"] == batch_id
    files = await lines(run, "download", batch_id, "--out", str(tmp_path / "out"))
    assert files == [f"{tmp_path / 'out' / job['id']}_0.png"]
    said = f"Jobs of the batch {batch_id}: 1 canceled, 0 stopping after the step they are at, 1 had ended already."
    assert await lines(run, "cancel", batch_id) == [said]
    await site.get("/v1/jobs")
    (line,) = await lines(run, "retry", batch_id)
    assert line.startswith(f"{batch_id}  1 job queued. List them: ")


async def test_a_command_that_takes_only_jobs_says_how_to_list_those_of_a_batch(
    run: Run, site: Site, tmp_path: Path
) -> None:
    batch_id, _ = await a_batch(run, site, tmp_path)
    for name in ("history", "watch"):
        refused = await run(name, batch_id, status=1)
        assert f"{batch_id} is a batch, and this takes a job. Its jobs: " in refused.stderr
        assert f" jobs --batch {batch_id} " in refused.stderr


async def test_what_is_not_there_is_status_1_under_any_command(run: Run) -> None:
    unknown = str(uuid4())
    for name in ("show", "cancel", "retry", "history", "watch", "download"):
        assert (await run(name, unknown, status=1)).stderr == f"darkroom: There is no job {unknown}.\n"
    assert (await run("jobs", "--batch", unknown, status=1)).stderr == f"darkroom: There is no batch {unknown}.\n"


async def test_an_option_without_an_effect_is_refused(run: Run) -> None:
    for name in ("jobs", "library"):
        assert "--owner works only with --as-of" in (await run(name, "--owner", "zed", status=2)).stderr
        assert "leave --url and --token away" in (await run(name, "--as-of", "1", status=2)).stderr


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"tags": ["\x1b[31mred", "a", "b c"]}, "tags \ufffd[31mred, a, b c"),
        ({"tags": [], "by": None, "saved": True}, "tags none; saved true"),
        ({"error": {"message": "it's\nout"}, "score": 5}, "error message it's\ufffdout; score 5"),
    ],
)
def test_a_history_has_lists_as_a_person_writes_them(data: Json, text: str) -> None:
    assert what_happened({"type": "asset.tagged", "data": data}) == text


def test_the_parameters_of_a_job_are_shown_as_set_takes_them() -> None:
    job = {
        "id": "7", "status": "queued", "job_type": "t", "model": "m", "task": "t2i", "prompt": "a fox", "seed": 1,
        "created_at": "2031-05-04T12:00:00Z", "assets": [], "params": {"karras": True, "steps": 20},
    }  # fmt: skip
    assert "params    karras=true, steps=20" in job_lines(job, [])
