"""How jobs, assets, prompts and files are named on the command line, and batches in files."""

import io
import os
import shlex
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from api.cli import terminal
from api.cli.doctor import lines_of
from api.cli.doctor.scene import CheckResult
from api.cli.names import asset_named, job_named, prompt_named, source_named
from api.cli.remote.batch_file import read_batch
from api.cli.remote.files import references_of
from api.run import PortTaken, listen
from api.up import here_and_elsewhere
from domain.recipes.recipe import asset_id

JOB = UUID("2f1c1f9e-4a53-5b0e-9d43-5d0f6a3f8f11")


@given(job=st.uuids(), index=st.integers(0, 999))
def test_an_asset_is_named_by_its_job_and_its_index(job: UUID, index: int) -> None:
    for text in (f"{job}/{index}", f"asset:{job}/{index}", f" {str(job).upper()}/{index} "):
        assert asset_named(text).id == str(asset_id(job, index))
    assert asset_named(f"{job}/{index}").text == f"{job}/{index}"
    assert source_named(f"asset:{job}/{index}") == f"asset:{asset_id(job, index)}"
    assert job_named(f"{job}/{index}") == job_named(str(job)) == str(job)


@pytest.mark.parametrize(
    "text", ["", "42", "/0", f"{JOB}/", f"{JOB}/x", f"{JOB}/-1", f"{JOB}/0/0", f"{JOB}/1.5", "a/b"]
)
def test_what_names_no_asset_is_bad_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not an asset: give its id, or JOB/INDEX"):
        asset_named(text)


@pytest.mark.parametrize("text", ["", "42", f"{JOB}x", f"{JOB}/x"])
def test_what_names_no_job_is_bad_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not the id of a job"):
        job_named(text)


@pytest.mark.parametrize("text", ["media:7", "photo@2x.png", "asset.png", "C:\\photo.png"])
def test_files_and_uploads_are_taken_as_they_are_named(text: str) -> None:
    assert source_named(text) == text


@pytest.mark.parametrize(
    ("files", "text", "source", "strength"),
    [
        (["photo@2x.png"], "photo@2x.png", "photo@2x.png", 0.7),
        (["photo@0.5"], "photo@0.5", "photo@0.5", 0.7),
        (["photo", "photo@0.5"], "photo@0.5", "photo@0.5", 0.7),
        (["photo@0.5"], "photo@0.5@0.9", "photo@0.5", 0.9),
        (["photo"], "photo@0.5", "photo", 0.5),
        (["photo.png"], "photo.png@1", "photo.png", 1.0),
        ([], "photo@2x.png", "photo@2x.png", 0.7),
        ([], "me@home/photo.png@0.3", "me@home/photo.png", 0.3),
        ([], "media:7@0.4", "media:7", 0.4),
        ([], f"asset:{JOB}/1@0.4", f"asset:{asset_id(JOB, 1)}", 0.4),
        ([], "a=b.png", "a=b.png", 0.7),
        ([], "fog.png@much", "fog.png@much", 0.7),
        ([], "fog.png@nan", "fog.png@nan", 0.7),
    ],
)
def test_a_reference_is_the_file_that_is_there_and_a_strength_is_a_number(
    files: list[str], text: str, source: str, strength: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        Path(name).touch()
    assert references_of([f"style={text}"]) == [{"type": "style", "source": source, "strength": strength}]


@pytest.mark.parametrize("text", ["fog.png", "style=", "=fog.png", "", "style"])
def test_a_reference_without_a_type_or_a_file_is_bad_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is not TYPE=FILE\[@STRENGTH\]"):
        references_of([text])


def stdin_of(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let `-` read this."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("content", ["a fox\n", "\ufeffa fox\r\n", "  a fox  ", "a\nfox 🦊\n"])
def test_a_prompt_comes_from_a_file_or_from_stdin(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_text(content, encoding="utf-8", newline="")
    stdin_of(monkeypatch, content.encode())
    expected = content.removeprefix("\ufeff").strip()
    assert prompt_named("-") == prompt_named(f"@{tmp_path / 'prompt.txt'}") == expected


@pytest.mark.parametrize(("text", "prompt"), [("@@home", "@home"), ("a@b", "a@b"), ("--", "--"), ("@@", "@")])
def test_a_prompt_with_an_at_sign_can_be_written(text: str, prompt: str) -> None:
    assert prompt_named(text) == prompt


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "is not UTF-8"), (b" \n", "is empty"), (b"", "is empty"), (b"x" * 1_048_577, "is too long")],
)
def test_a_file_that_is_no_prompt_is_bad_usage(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt").write_bytes(content)
    stdin_of(monkeypatch, content)
    for text in ("-", f"@{tmp_path / 'prompt'}"):
        with pytest.raises(typer.BadParameter, match=words):
            prompt_named(text)


@pytest.mark.parametrize("text", ["@none.txt", "@", "@a\0b", "@/"])
def test_a_prompt_file_that_cannot_be_read_says_how_to_write_an_at_sign(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="A prompt that begins with @ is written with @@"):
        prompt_named(text)


CSV = """\
template,prompt,type,quantity,seed,negative,tags,reference,set.steps,set.karras
heart,"a large red heart, on white",sdxl_image_fast,3,42,fog,"sea, fog",style=photo.png@0.4,20,true
,,,,,,,,,
star,a small blue star,,,,,,,,
"""


def test_a_csv_is_a_job_for_each_row_and_an_empty_cell_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f"\ufeff{CSV}", encoding="utf-8")
    read = read_batch(file, "video_fast")
    assert read.body == {
        "name": "cards",
        "items": [
            {
                "template": "heart", "prompt": "a large red heart, on white", "job_type": "sdxl_image_fast",
                "quantity": 3, "seed": 42, "negative_prompt": "fog", "tags": ["sea", "fog"],
                "references": [{"type": "style", "source": "photo.png", "strength": 0.4}],
                "params": {"steps": 20, "karras": True},
            },
            {"template": "star", "prompt": "a small blue star", "job_type": "video_fast"},
        ],
    }  # fmt: skip
    assert read.places == ["line 2 (heart)", "line 4 (star)"]


def test_a_toml_has_the_fields_of_the_api(tmp_path: Path) -> None:
    file = tmp_path / "cards.toml"
    file.write_text('collection = "Cards"\n[[items]]\nprompt = "a fox"\nparams = { steps = 4 }\n', encoding="utf-8")
    read = read_batch(file, "sdxl_image_fast")
    item = {"prompt": "a fox", "params": {"steps": 4}, "job_type": "sdxl_image_fast"}
    assert read.body == {"name": "cards", "collection": "Cards", "items": [item]}
    assert read.places == ["item 1"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "prmpt\nfox\n", r"line 1: there is no column 'prmpt'; did you mean prompt\?"),
        ("a.csv", "prompt,colour\nfox,red\n", "line 1: there is no column 'colour'"),
        ("a.csv", "prompt,prompt\nfox,red\n", "the column prompt is there twice"),
        ("a.csv", "template\nfox\n", "the column prompt is missing"),
        ("a.csv", "prompt\na, b\n", "line 2: more cells than columns"),
        ("a.csv", 'prompt\n"a\n', "after line 1: a quote is not closed"),
        ("a.csv", "prompt\n\n", "has no items"),
        ("a.csv", "", "the column prompt is missing"),
        ("a.toml", "[[items]\n", "is not TOML"),
        ("a.toml", 'name = "x"\n', r"under a heading \[\[items\]\]"),
        ("a.toml", "items = [1]\n", r"under a heading \[\[items\]\]"),
        ("a.txt", "fox\n", "neither a .csv nor a .toml file"),
    ],
)
def test_a_file_that_is_no_batch_says_where_and_what(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(typer.BadParameter, match=words):
        read_batch(tmp_path / name, "sdxl_image_fast")


def test_a_row_whose_reference_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,reference\nfox,photo.png\nowl,style=owl.png\n", encoding="utf-8")
    read = read_batch(file, "sdxl_image_fast")
    assert [item.get("prompt") for item in read.body["items"]] == [None, "owl"]
    ((index, problem),) = read.problems.items()
    assert read.places[index] == "line 2"
    assert problem.startswith("--reference 'photo.png' is not TYPE=FILE")


def test_a_csv_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt\nfox\ncaf\xe9\n")
    with pytest.raises(typer.BadParameter, match=r"is not UTF-8 \(line 3\)"):
        read_batch(tmp_path / "a.csv", "sdxl_image_fast")


def test_a_command_is_printed_as_it_is_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "with a space" / "darkroom"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert terminal.command("submit", "a fox's den") == "'with a space/darkroom' submit 'a fox'\"'\"'s den'"
    assert shlex.split(terminal.pasteable("run `darkroom up`").split("`")[1]) == ["with a space/darkroom", "up"]
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin")
    assert terminal.command("jobs") == "darkroom jobs"
    monkeypatch.setattr(sys, "argv", ["/some/api/cli/__main__.py"])
    assert terminal.program().endswith("darkroom")


def test_the_doctor_has_one_line_for_one_cause() -> None:
    gone = ("fault", "Postgres cannot be reached.", "Start it.")
    found = [
        CheckResult("settings", "ok"),
        CheckResult("postgres", *gone),
        CheckResult("schema", *gone),
        CheckResult("nats", "skipped", "nothing runs"),
        CheckResult("views", *gone),
        CheckResult("api", "skipped", "nothing runs"),
        CheckResult("disk", "ok"),
    ]
    assert lines_of(found) == [
        "ok       settings",
        "FAULT    postgres, schema, views: Postgres cannot be reached.\n         Fix: Start it.",
        "skipped  nats, api: nothing runs",
        "ok       disk",
    ]


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:8700"), ("::1", "http://[::1]:8700")])
def test_an_address_of_its_own_is_the_same_for_everybody(host: str, url: str) -> None:
    assert here_and_elsewhere(host, 8700) == (url, url)


@pytest.mark.parametrize(("host", "here"), [("0.0.0.0", "http://127.0.0.1:8700"), ("::", "http://[::1]:8700")])
def test_a_server_on_every_address_is_shown_under_one_that_can_be_opened(host: str, here: str) -> None:
    own, shown = here_and_elsewhere(host, 8700)
    assert own == here
    assert "0.0.0.0" not in shown
    assert "[::]" not in shown
    assert shown.endswith(":8700")


def test_a_port_that_is_taken_is_said_in_a_sentence() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(PortTaken) as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert "Address already in use. Choose another port with --port" in str(refused.value)
    assert "while attempting" not in str(refused.value)


def test_an_asset_of_a_job_that_there_is_not_has_an_id_all_the_same() -> None:
    assert UUID(asset_named(f"{uuid4()}/7").id).version == 5
