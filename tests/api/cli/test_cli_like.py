"""`darkroom submit --like JOB` against a served API: what it takes over, what it leaves away and says."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.json_type import Json
from domain.recipes.catalog import Catalog
from tests.api.assets.test_uploads import described, upload
from tests.api.cli.test_cli import assert_one_line, darkroom
from tests.api.conftest import serving
from tests.api.serving import TOKEN, AServer, Site
from tests.domain.catalogs import SHIPPED, catalog_of
from tests.services.media_files import encoded, picture

Command = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]

NESTED = """
[params.rho]
type = "number"
minimum = 1
maximum = 10
default = 7.0
depends_on = { karras = true }
[job_types.sdxl_image_fast]
params = ["rho", "karras", "steps", "guidance", "sampler"]
"""
ASKED = {"params": {"sampler": "dpm++", "karras": True, "rho": 3.0, "steps": 4}, "negative_prompt": "fog"}


@pytest.fixture
def catalog() -> Catalog:
    """The packaged catalog, with conditions that nest."""
    return catalog_of(SHIPPED, NESTED)


def command_of(server: AServer, folder: Path) -> Command:
    """The command line that knows the server."""

    async def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        where = ("--url", server.url, "--token", TOKEN)
        return await asyncio.to_thread(darkroom, "submit", *arguments, *where, data_dir=folder / "none")

    return run


@pytest.fixture
def submit(server: AServer, tmp_path: Path) -> Command:
    """`darkroom submit`."""
    return command_of(server, tmp_path)


async def like(submit: Command, job: Json, *arguments: str) -> tuple[Json, list[str]]:
    """The job that is submitted like another one, and what is said on stderr about it."""
    done = await submit("--like", job["id"], *arguments, "--json")
    assert done.returncode == 0, done.stderr
    submitted: Json = json.loads(done.stdout)
    assert submitted["parent_id"] == job["id"]
    return submitted, [line.removeprefix("darkroom: ") for line in done.stderr.splitlines()]


def differences(job: Json, other: Json) -> dict[str, Any]:
    """What the other one has otherwise, of all that was asked for."""
    names = (
        "job_type", "model", "task", "prompt", "negative_prompt", "params", "quantity", "seed", "references", "media",
    )  # fmt: skip
    return {name: other[name] for name in names if other[name] != job[name]}


async def test_without_more_it_is_the_same_again(site: Site, submit: Command) -> None:
    job = await site.submit(**ASKED)
    again, said = await like(submit, job)
    assert (differences(job, again), said) == ({}, [])
    assert again["id"] != job["id"]


async def test_what_is_said_on_the_command_line_is_otherwise(site: Site, submit: Command) -> None:
    job = await site.submit(**ASKED)
    changed, said = await like(
        submit, job, "a red barn", "--set", "steps=9", "--seed", "7", "--quantity", "1", "--negative", "snow"
    )
    params = job["params"] | {"steps": 9}
    expected = {"prompt": "a red barn", "negative_prompt": "snow", "seed": 7, "quantity": 1, "params": params}
    assert differences(job, changed) == expected
    assert said == []


async def test_a_random_seed_is_a_new_one(site: Site, submit: Command) -> None:
    job = await site.submit(seed=42)
    seeds = {(await like(submit, job, "--seed", "random"))[0]["seed"] for _ in range(2)}
    assert len(seeds | {42}) == 3
    plain = await submit("a red barn", "--seed", "random", "--json")
    assert json.loads(plain.stdout)["seed"] not in seeds


async def test_what_depends_on_a_changed_parent_is_left_away_at_any_depth_and_said(site: Site, submit: Command) -> None:
    job = await site.submit(**ASKED)
    changed, said = await like(submit, job, "--set", "sampler=euler")
    assert {"karras", "rho"}.isdisjoint(changed["params"])
    assert changed["params"]["steps"] == 4
    assert said == [
        "karras is left away: only with sampler = dpm++.",
        "rho is left away: only with karras = true.",
    ]
    changed, said = await like(submit, job, "--set", "karras=false")
    assert changed["params"]["karras"] is False
    assert said == ["rho is left away: only with karras = true."]


async def test_what_is_asked_for_though_it_means_nothing_is_for_the_server_to_refuse(
    site: Site, submit: Command
) -> None:
    job = await site.submit(**ASKED)
    refused = await submit("--like", job["id"], "--set", "sampler=euler", "--set", "karras=true")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "params.karras: only with sampler = dpm++" in refused.stderr


async def test_another_job_type_takes_what_it_can(site: Site, submit: Command) -> None:
    job = await site.submit(**ASKED)
    film, said = await like(submit, job, "--type", "video_fast")
    assert (film["job_type"], film["task"], film["seed"], film["params"]["steps"]) == ("video_fast", "t2v", 42, 4)
    assert said[0] == "quantity is left away: was 3; must be one of 1."
    assert {line.split()[0] for line in said} == {"quantity", "sampler", "karras", "rho"}
    chosen, said = await like(submit, job, "--type", "video_fast", "--quantity", "1", "--set", "frames=9")
    assert (chosen["quantity"], chosen["params"]["frames"]) == (1, 9)
    assert not [line for line in said if line.startswith("quantity")]


async def test_files_are_taken_over_unless_others_are_given(site: Site, submit: Command, tmp_path: Path) -> None:
    media = described(await upload(site.http, encoded(picture())))
    reference = {"type": "composition", "source": f"media:{media['id']}", "strength": 0.5}
    job = await site.submit(quantity=1, references=[reference])
    same, _ = await like(submit, job)
    assert same["references"] == [reference]
    (tmp_path / "other.png").write_bytes(encoded(picture(96)))
    other, said = await like(submit, job, "--reference", f"composition={tmp_path / 'other.png'}@0.9")
    assert [each["strength"] for each in other["references"]] == [0.9]
    assert other["references"][0]["source"] != reference["source"]
    site.parts.blobs.delete(site.ledger.media(UUID(media["id"])).uploaded.path)
    without, said = await like(submit, job)
    assert without["references"] == []
    assert said[0].startswith("Nothing can start from media:")
    assert said[-1] == "references.0 is left away: its file is not in the object store any more."
    _, said = await like(submit, job, "--reference", f"composition={tmp_path / 'other.png'}@0.9")
    assert said == []


async def test_a_person_reads_what_is_left_away_next_to_the_new_job(site: Site, submit: Command) -> None:
    job = await site.submit(**ASKED)
    done = await submit("--like", job["id"], "--set", "sampler=euler")
    assert done.returncode == 0, done.stderr
    assert "queued" in done.stdout
    assert "darkroom: karras is left away: only with sampler = dpm++." in done.stderr.splitlines()


async def test_a_catalog_that_changed_is_said(site: Site, submit: Command, tmp_path: Path) -> None:
    job = await site.submit(**ASKED)
    own = 'params.sampler.choices = ["euler", "heun"]\nparams.karras.depends_on.sampler = "heun"\n'
    today = catalog_of(SHIPPED, own)
    async with serving(replace(site.parts, catalog=today.with_model("sdxl", "sdxl"))) as other:
        again, said = await like(command_of(other, tmp_path), job)
    assert again["model"] == "sdxl"
    assert said == [
        "The job ran on the model sdxl-demo; sdxl_image_fast runs on sdxl now.",
        "sampler is left away: was dpm++; must be one of euler, heun.",
        "karras is left away: only with sampler = heun.",
        "rho is left away: unknown; allowed: fit, guidance, height, karras, sampler, steps, width.",
    ]


async def test_an_unknown_job_is_one_line(submit: Command) -> None:
    unknown = str(uuid4())
    refused = await submit("--like", unknown)
    assert refused.returncode == 1
    assert unknown in refused.stderr
    assert_one_line(refused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--like", "42"], "is not the id of a job"),
        (["a", "--seed", "new"], "neither a whole number nor random"),
        ([], "or --like JOB"),
    ],
)
async def test_bad_usage_is_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    refused = await asyncio.to_thread(darkroom, "submit", *arguments, data_dir=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert_one_line(refused)
