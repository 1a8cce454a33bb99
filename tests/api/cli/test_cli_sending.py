"""What commands send: values that no request can carry, pipes, and the rows of a batch, each on its own."""

import asyncio
import json
import math
import os
import shlex
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.commands import submitting
from api.cli.remote.sendable import why_unsendable
from services.files.media.formats import ALLOWED
from tests.api.cli.running import Run, answer, lines
from tests.api.serving import Site
from tests.services.media_files import encoded, picture


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"params": {"steps": math.inf}}, "params.steps: a number must be finite, and below 1e308"),
        ({"params": {"steps": [1, math.nan]}}, "params.steps.1: a number must be finite, and below 1e308"),
        ({"seed": 10**400}, "seed: a number must be finite, and below 1e308"),
        ({"tags": ["a", "\udcff"]}, "tags.1: the text is not UTF-8"),
        ({"params": {"\udcff": 1}}, "the name of a field in params: the text is not UTF-8"),
        ({"when": date(2020, 1, 1)}, "when: JSON has no date; put it in quotes"),
    ],
)
def test_a_value_that_no_request_can_carry_is_named_with_its_path(value: object, problem: str) -> None:
    assert why_unsendable(value) == problem


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(document=documents)
def test_whatever_is_sendable_can_be_encoded(document: object) -> None:
    if why_unsendable(document) is None:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


async def test_a_value_that_cannot_be_sent_is_bad_usage(run: Run, site: Site) -> None:
    for value in ("1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "\udcff"):
        refused = await run("submit", "a fox", "--set", f"steps={value}", status=2)
        assert refused.stderr.startswith("darkroom: params.steps: "), refused.stderr
        assert refused.stderr.count("\n") == 1
    job = await site.finished()
    for arguments in (("title", f"{job['id']}/0", "\udcff"), ("library", "-q", "\udcff"), ("jobs", "--type", "\udcff")):
        assert "the text is not UTF-8" in (await run(*arguments, status=2)).stderr


async def test_a_row_that_cannot_be_sent_holds_up_no_other(run: Run, site: Site, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    file = tmp_path / "cards.csv"
    rows = [
        "a fox,,,",
        "a hen,composition=m/none.jpg,,",
        "a cat,,,1e400",
        "a dog,composition=text.png,,",
        "a cow,,asset:7,",
    ]
    file.write_text("\n".join(["prompt,reference,image,set.steps", *rows, ""]), encoding="utf-8")
    done = await run("batch", str(file), status=1)
    batch_id, _, said = done.stdout.strip().partition("  ")
    assert said.startswith("1 of 5 jobs queued. List them: ")
    said_of_rows = done.stderr.splitlines()
    for line, number, words in zip(
        said_of_rows,
        (3, 4, 5, 6),
        (
            "No such file or directory",
            "params.steps: a number must be finite",
            "PNG, JPEG",
            "'asset:7' is not an asset",
        ),
        strict=True,
    ):
        assert line.startswith(f"darkroom: line {number} was rejected: ")
        assert words in line
    await site.get("/v1/jobs")
    assert [job["prompt"] for job in await answer(run, "jobs", "--batch", batch_id)] == ["a fox"]
    document = json.loads((await run("batch", str(file), "--json", status=1)).stdout)
    assert [each["place"] for each in document["not_sent"]] == ["line 3", "line 4", "line 5", "line 6"]
    assert len(document["items"]) == 1


async def test_the_items_of_a_toml_are_rejected_on_their_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "cards.toml"
    items = ("when = 2020-01-01", "params = { steps = inf }", "references = 3", "media = { image = 7 }", "seed = 7")
    file.write_text("\n".join(f'[[items]]\nprompt = "a fox"\n{item}' for item in items), encoding="utf-8")
    done = await run("batch", str(file), status=1)
    assert "  1 of 5 jobs queued. " in done.stdout
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [
        f" item {number} was rejected" for number in (1, 2, 3, 4)
    ]
    file.write_text('[[items]]\nprompt = "a fox"\nwhen = 2020-01-01\n', encoding="utf-8")
    none = await run("batch", str(file), status=1)
    assert none.stdout == ""
    assert none.stderr == "darkroom: item 1 was rejected: when: JSON has no date; put it in quotes\n"


async def test_an_upload_comes_from_a_pipe_as_from_a_file(run: Run, tmp_path: Path) -> None:
    pipe, content = tmp_path / "pipe", encoded(picture(), "PNG")
    await asyncio.to_thread(os.mkfifo, pipe)
    written = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, content))
    media = await answer(run, "upload", str(pipe))
    await written
    assert (media["kind"], media["bytes"]) == ("image", len(content))
    for name, words in ((".", "Is a directory"), ("/dev/null", "empty"), ("/proc/version", "PNG, JPEG")):
        refused = await run("upload", name, status=1)
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1


async def test_a_printed_command_for_an_upload_is_one_that_the_server_takes(
    run: Run, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    _, advice = await lines(run, "upload", str(tmp_path / "a.png"))
    words = shlex.split(advice.removeprefix("Use it: "))
    await run("submit", *words[words.index("submit") + 1 : words.index("--url")])


def test_an_upload_is_advised_only_where_a_job_type_takes_it() -> None:
    still = {"name": "still", "tasks": ["t2i"], "references": ["style"]}
    drawn = {"name": "drawn", "tasks": ["t2i", "i2i"], "references": ["style"]}
    moved = {"name": "moved", "tasks": ["t2v", "i2v", "extend"], "references": []}
    for kind, types, options in (
        ("image", [still, drawn, moved], ["--type", "drawn", "--reference", "style=media:7"]),
        ("image", [still, moved], ["--type", "moved", "--image", "media:7"]),
        ("video", [still, moved], ["--type", "moved", "--video", "media:7"]),
        ("video", [still, drawn], None),
        ("audio", [still, drawn, moved], None),
    ):
        assert submitting._options_taking({"kind": kind, "id": "7"}, types) == options


def test_the_help_of_upload_names_every_format() -> None:
    page = (Path(__file__).parents[3] / "docs" / "uploads.md").read_text("utf-8")
    for name in ALLOWED.split(", "):
        assert name in (submitting.upload.__doc__ or "")
        assert name in page
    assert "M4A" in ALLOWED
