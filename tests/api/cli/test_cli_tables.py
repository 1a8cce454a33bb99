"""What the command line prints fits its terminal, and whatever users wrote reaches no terminal as a command."""

import io
import sys
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli import terminal
from api.cli.columns import Column, cells, cut, table, wrap
from api.cli.tables import history_lines, jobs_lines, library_lines, models_lines, params_lines, types_lines
from api.cli.terminal import printable

STATUSES = ("queued", "processing", "succeeded", "partially_succeeded", "failed", "canceled", "aborted")
TEXTS = st.text(max_size=80) | st.sampled_from(["猫" * 40, "👨‍👩‍👧" * 20, "🏴󠁧󠁢󠁥󠁮󠁧󠁿 flag", "می‌خواهم", "a" * 300])


def job(number: int, status: str, prompt: str) -> dict[str, Any]:
    """A job as the API lists it."""
    return {
        "id": str(UUID(int=number)),
        "status": status,
        "job_type": "image7b_high_enhanced",
        "quantity": 6,
        "assets": [],
        "created_at": "2031-05-04T12:00:00Z",
        "prompt": prompt,
        "queue": {"position": 12, "eta_s": 120.0, "eta_p90_s": 300.0},
        "progress": {"step": 7, "total": 15},
    }


@given(prompts=st.lists(st.tuples(st.sampled_from(STATUSES), TEXTS), min_size=1, max_size=5))
@pytest.mark.parametrize("width", [40, 80, 120, 200, None])
def test_a_list_of_jobs_has_whole_ids_and_statuses_and_a_line_for_each(
    width: int | None, prompts: list[tuple[str, str]]
) -> None:
    jobs = [job(number, status, prompt) for number, (status, prompt) in enumerate(prompts)]
    heading, *lines = jobs_lines(jobs, width)
    assert heading.split()[:2] == ["ID", "STATUS"]
    assert [line.split()[:2] for line in lines] == [[each["id"], each["status"]] for each in jobs]
    if width is not None and width >= 80:
        assert max(cells(line) for line in [heading, *lines]) <= width


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6), st.integers(20, 200))
def test_columns_begin_below_each_other_whatever_is_in_them(rows: list[tuple[str, str, str]], width: int) -> None:
    shown = [[printable(cell) for cell in row] for row in rows]
    columns = [Column("first", whole=False), Column("second", whole=False, leave_at=1), Column("third", whole=False)]
    lines = table(columns, shown, width)
    assert len(lines) == 1 + len(rows)
    assert max(cells(line) for line in lines) <= max(width, 3 * 12)


@given(TEXTS, st.integers(1, 80))
def test_a_cut_text_fits_and_says_that_it_was_cut(text: str, width: int) -> None:
    shown = printable(text)
    short = cut(shown, width)
    assert cells(short) <= width
    assert short == shown or short.endswith("…")


@given(TEXTS, st.integers(10, 60))
def test_a_wrapped_text_loses_no_word(text: str, width: int) -> None:
    shown = printable(text)
    lines = wrap(shown, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(shown.split())


def test_an_event_that_says_much_goes_on_below_itself() -> None:
    event = {"position": 7, "at": "2031-05-04T12:00:00Z", "type": "job.failed", "actor": "gpu-1",
             "data": {"error": {"message": "word " * 40, "error_class": "fatal"}}}  # fmt: skip
    lines = history_lines([event], 80)
    assert max(len(line) for line in lines) <= 80
    assert sum(line.count("word") for line in lines) == 40


ASSET = {
    "id": str(UUID(int=5)), "kind": "image", "rating": 4, "saved": True, "completed_at": "2031-05-04T12:00:00Z",
    "job_type": "sdxl_image_fast", "tags": ["sea", "fog"], "title": None, "prompt": "a lighthouse " * 9,
}  # fmt: skip
TYPE = {"name": "sdxl_image_fast", "kind": "image", "quantities": [1, 3, 6], "expected_s": [4, 8], "model": "sdxl-demo",
        "tasks": ["t2i", "i2i"], "label": "SDXL image, fast " * 4}  # fmt: skip
MODEL = {"name": "sdxl", "pool": "sdxl", "width": 1024, "height": 1024, "tasks": ["t2i"], "references": ["style"],
         "label": "Stable Diffusion XL " * 4}  # fmt: skip
PARAMETERS = {"properties": {
    "steps": {"type": "integer", "minimum": 1.0, "maximum": 100.0, "default": 15, "depends_on": []},
    "karras": {"type": "boolean", "default": False, "depends_on": [{"name": "sampler", "values": ["dpm++"]}]},
}}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_list_fits_a_terminal_of_80_columns_and_more(width: int) -> None:
    for lines in (
        library_lines([ASSET], width),
        types_lines([TYPE], width),
        models_lines([MODEL], width),
        params_lines(PARAMETERS, width),
    ):
        assert max(len(line) for line in lines) <= width
        assert len(lines) >= 2


def test_parameters_say_what_is_allowed_and_what_they_depend_on() -> None:
    _, steps, karras = params_lines(PARAMETERS, None)
    assert steps.split(maxsplit=2) == ["steps", "15", "whole number 1 to 100"]
    assert karras.endswith("sampler = dpm++")


@given(st.text(max_size=60))
def test_no_text_can_steer_a_terminal_or_leave_its_line(text: str) -> None:
    shown = printable(text)
    kept = {letter for letter in shown if not letter.isprintable()}
    assert kept <= {"\u200d", "\u200c", *map(chr, range(0xE0020, 0xE0080))}
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    "text",
    ["👨‍👩‍👧 at sea", "🏳️‍🌈", "می‌خواهم", "क्‍ष", "🏴󠁧󠁢󠁳󠁣󠁴󠁿 hills", "猫と犬", "a plain prompt"],
)
def test_joined_emoji_and_letters_stay_joined(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red\u202egnp", "red\ufffdgnp"),
        ("a\u2066b\u2069", "a\ufffdb\ufffd"),
        ("\u200dalone", "\ufffdalone"),
        ("at the end\u200d", "at the end\ufffd"),
        ("a\u200d\u200db", "a\ufffd\ufffdb"),
        ("\x1b[2J", "\ufffd[2J"),
        ("two\nlines\ttab", "two\ufffdlines\ufffdtab"),
        ("non\u00a0breaking\u3000wide", "non breaking wide"),
        ("zero\u200bwidth\ufeff", "zero\ufffdwidth\ufffd"),
        ("\U000e0041tag", "\ufffdtag"),
    ],
)
def test_characters_that_are_not_seen_or_turn_others_round_are_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@given(text=st.text(max_size=40))
def test_an_output_of_any_encoding_takes_any_text(encoding: str, text: str) -> None:
    before = sys.stdout, sys.stderr
    written = io.BytesIO()
    try:
        sys.stdout = out = io.TextIOWrapper(written, encoding=encoding)
        terminal.show_whatever_comes()
        out.write(f"{text}…\udcff")
        out.flush()
    finally:
        sys.stdout, sys.stderr = before
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    shown = written.getvalue().decode(encoding)
    assert shown.endswith("?")
    if encoding == "ascii":
        assert shown.endswith("...?")


def test_json_for_an_output_without_unicode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.print_json({"prompt": "🦊"})
    out.flush()
    assert b'"\\ud83e\\udd8a"' in written.getvalue()
