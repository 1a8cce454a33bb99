"""The commands that look, fetch and curate, against a served API: what they ask for, print and answer with."""

import asyncio
import json
import shlex
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from tests.api.cli.running import Run, answer, lines
from tests.api.cli.test_cli import ROOT
from tests.api.serving import TOKEN, AServer, Site


async def test_an_asset_is_curated_by_its_job_and_index(run: Run, site: Site) -> None:
    job = await site.finished()
    first, second = f"{job['id']}/0", f"{job['id']}/1"
    await site.get("/v1/jobs")
    assert await lines(run, "rate", first, "5") == [f"{first}  rated 5"]
    asset_id = job["assets"][0]["id"]
    assert await lines(run, "title", asset_id, "A light") == [f"{asset_id}  is called A light"]
    assert await lines(run, "tag", first, "sea", "fog") == [f"{first}  tags: fog, sea"]
    await site.get("/v1/jobs")
    assert await lines(run, "tag", first, "fog", "--remove") == [f"{first}  tags: sea"]
    await site.get("/v1/jobs")
    assert (await answer(run, "tag", first))["tags"] == ["sea"]
    assert await lines(run, "save", first, second) == [f"{first}  saved", f"{second}  saved"]
    assert (await answer(run, "save", second, "--undo"))["saved"] is False
    shown = await site.get(f"/v1/assets/{asset_id}")
    assert (shown["rating"], shown["title"], shown["tags"], shown["saved"]) == (5, "A light", ["sea"], True)
    assert await lines(run, "title", first, "--remove") == [f"{first}  has no title"]


async def test_a_tag_that_no_view_knows_yet_is_not_lost(run: Run, site: Site) -> None:
    job = await site.finished()
    first = f"{job['id']}/0"
    await site.get("/v1/jobs")
    for added, tags in (("fog", "fog"), ("sea", "fog, sea"), ("ice", "fog, ice, sea")):  # no view moves in between
        assert await lines(run, "tag", first, added) == [f"{first}  tags: {tags}"]
    assert await lines(run, "tag", first, "ice", "--remove") == [f"{first}  tags: fog, sea"]
    assert await lines(run, "tag", first, "snow") == [f"{first}  tags: fog, sea, snow"]


async def test_of_several_assets_one_that_is_not_there_holds_up_no_other(run: Run, site: Site) -> None:
    job = await site.finished()
    here, gone, unknown = f"{job['id']}/2", f"{job['id']}/9", str(uuid4())
    await site.get("/v1/jobs")
    done = await run("trash", gone, here, unknown, status=1)
    assert done.stdout == f"{here}  in the trash\n"
    assert done.stderr == f"darkroom: There is no asset {gone}.\ndarkroom: There is no asset {unknown}.\n"
    await site.get("/v1/library")
    _, line = await lines(run, "library", "--trashed")
    assert line.startswith(job["assets"][2]["id"])
    assert await lines(run, "restore", here) == [f"{here}  restored"]
    await site.get("/v1/library")
    listed = await answer(run, "library")
    assert [asset["index"] for asset in listed] == [2, 1, 0]


async def test_a_download_is_checked_and_replaces_nothing_else(run: Run, site: Site, tmp_path: Path) -> None:
    job = await site.finished()
    out = tmp_path / "out"
    await site.get("/v1/jobs")
    files = [out / f"{job['id']}_{index}.png" for index in range(3)]
    expected = [str(file) for file in files]
    content = files[0].read_bytes
    assert await lines(run, "download", f"{job['id']}/1", "--out", str(out)) == expected[1:2]
    assert await lines(run, "download", job["id"], "--out", str(out)) == expected
    rendered = content()
    await asyncio.to_thread(files[0].write_bytes, b"mine")
    refused = await run("download", job["assets"][0]["id"], "--out", str(out), status=1)
    assert "is there already, with other content" in refused.stderr
    assert content() == b"mine"
    assert await answer(run, "download", job["id"], "--out", str(out), "--force") == expected
    assert content() == rendered


async def test_show_takes_jobs_and_assets_and_prints_the_ids_of_all(run: Run, site: Site) -> None:
    job = await site.finished()
    await site.get("/v1/jobs")
    shown = await lines(run, "show", job["id"])
    assert [line.split()[:2] for line in shown[-3:]] == [[str(a["index"]), a["id"]] for a in job["assets"]]
    asset = job["assets"][1]
    for name in (asset["id"], f"{job['id']}/1"):
        assert (await lines(run, "show", name))[:2] == [f"asset     {asset['id']}", f"job       {job['id']}, output 1"]
    missing = await run("show", f"{job['id']}/7", status=1)
    assert missing.stderr == f"darkroom: There is no asset {job['id']}/7.\n"


async def test_filters_say_when_nothing_fits_and_when_there_is_no_such_thing(run: Run, site: Site) -> None:
    nothing = await run("jobs")
    assert nothing.stdout == ""
    assert "There are no jobs. Submit one: " in nothing.stderr
    job = await site.submit()
    await site.get("/v1/jobs")
    none = await run("jobs", "--status", "failed")
    assert none.stdout == ""
    assert none.stderr.startswith("None of your jobs has the status failed. List all of them: ")
    assert await answer(run, "jobs", "--status", "failed") == []
    assert [each["id"] for each in await answer(run, "jobs", "--status", "queued")] == [job["id"]]
    for arguments, words in (
        (("jobs", "--status", "finished"), "'succeeded'"),
        (("jobs", "--type", "sdxl_image_fats"), "there is no job type 'sdxl_image_fats'; did you mean sdxl_image_fast"),
        (("library", "--model", "sdxl-dmo"), "there is no model 'sdxl-dmo'; did you mean sdxl-demo"),
        (("library", "--kind", "sound"), "'image'"),
        (("library", "--min-score", "6"), "must be at most 5"),
        (("params", "video_fst"), "did you mean video_fast"),
        (("jobs", "--batch", "7"), "'7' is not the id of a batch"),
    ):
        refused = await run(*arguments, status=2)
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1


async def test_several_jobs_are_canceled_and_each_says_so(run: Run, site: Site) -> None:
    jobs = [(await site.submit())["id"] for _ in range(2)]
    unknown = str(uuid4())
    done = await run("cancel", jobs[0], unknown, f"{jobs[1]}/0", status=1)
    assert done.stdout == f"Job {jobs[0]} is canceled.\nJob {jobs[1]} is canceled.\n"
    assert done.stderr == f"darkroom: There is no job {unknown}.\n"
    assert (await answer(run, "cancel", jobs[0]))["result"] == "already_finished"
    assert [each["result"] for each in await answer(run, "cancel", *jobs)] == ["already_finished"] * 2


async def test_a_batch_file_submits_its_rows_and_names_the_line_that_was_rejected(
    run: Run, site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "cards.csv"
    file.write_text("template,prompt,quantity\nfox,a fox,1\ntwo,a hen,2\nhen,a hen,3\n", encoding="utf-8")
    done = await run("batch", str(file), status=1)
    batch_id, _, said = done.stdout.strip().partition("  ")
    assert said.startswith("2 of 3 jobs queued. List them: ")
    assert "darkroom: line 3 (two) was rejected: quantity: " in done.stderr
    await site.get("/v1/jobs")
    listed = await answer(run, "jobs", "--batch", batch_id)
    assert sorted(job["prompt"] for job in listed) == ["a fox", "a hen"]
    document = await site.get(f"/v1/batches/{batch_id}")
    assert document["name"] == "cards"


async def test_the_catalog_can_be_read(run: Run) -> None:
    heading, *rows = await lines(run, "types")
    assert heading.split()[:2] == ["TYPE", "MAKES"]
    assert "sdxl_image_fast" in [row.split()[0] for row in rows]
    assert "sdxl-demo" in [row.split()[0] for row in (await lines(run, "models"))[1:]]
    assert "steps" in [row.split()[0] for row in (await lines(run, "params", "sdxl_image_fast"))[1:]]
    assert "steps" in (await answer(run, "params", "sdxl_image_fast"))["properties"]


async def test_a_list_reaches_any_output_and_any_width(run: Run, site: Site) -> None:
    job = await site.submit(prompt="🦊 a fox " * 20)
    await site.get("/v1/jobs")
    for environment in (
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"TERM": "dumb", "COLUMNS": "80"},
        {"COLUMNS": "40"},
    ):
        done = await run("jobs", environment=environment)
        assert done.stdout.splitlines()[1].split()[:2] == [job["id"], "queued"]
        assert (await run("show", job["id"], environment=environment)).stdout.startswith(f"job       {job['id']}\n")
    escaped = await run("jobs", "--json", environment={"PYTHONIOENCODING": "ascii"})
    assert json.loads(escaped.stdout)[0]["prompt"] == job["prompt"]


async def test_a_prompt_comes_from_a_file_and_its_asset_from_an_index(run: Run, site: Site, tmp_path: Path) -> None:
    earlier = await site.finished()
    await site.get("/v1/jobs")
    (tmp_path / "prompt.txt").write_text("a fox 🦊\n", encoding="utf-8")
    job = await answer(
        run, "submit", f"@{tmp_path / 'prompt.txt'}", "--reference", f"composition=asset:{earlier['id']}/2@0.4"
    )
    assert job["prompt"] == "a fox 🦊"
    (reference,) = job["references"]
    assert (reference["source"], reference["strength"]) == (f"asset:{earlier['assets'][2]['id']}", 0.4)


async def test_a_reader_that_has_enough_is_no_failure(server: AServer, site: Site, tmp_path: Path) -> None:
    for _ in range(20):
        await site.submit()
    await site.get("/v1/jobs")
    for name in ("jobs", "jobs --json"):
        program = f"{shlex.quote(sys.executable)} -m api.cli {name} --url {server.url} --token {TOKEN}"
        shell = ["bash", "-c", f"{{ {program}; echo $? >&2; }} | true"]  # closed before anything is written
        done = await asyncio.to_thread(subprocess.run, shell, capture_output=True, text=True, check=False, cwd=ROOT)
        assert (done.stdout, done.stderr.strip()) == ("", "141")
