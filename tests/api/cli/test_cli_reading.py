"""What the command line reads and shows: event streams in any cut, problems of the API, texts of users."""

import json
import re
from collections.abc import AsyncIterator, Iterable
from io import StringIO
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from api.cli.remote.client import Client, failure
from api.cli.remote.failures import NotSignedIn, NotThere, Rejected, ServerBusy, Unreachable
from api.cli.remote.server_events import EVENT_BYTES_MAX, ServerEvent, events_in
from api.cli.remote.watch import LiveScreen, PlainScreen, screen_for, watch
from api.cli.tables import dead_jobs_lines, history_lines, job_lines, what_happened
from api.cli.terminal import printable

PROMPT = "two\u2028lines\x85and \u001c more"
STREAM = (
    ": hello\n\nretry: 1000\n\n"
    'event: progress\ndata: {"step": 0}\n\n'
    f"id: 7\nevent: job.started\ndata: {json.dumps({'prompt': PROMPT}, ensure_ascii=False)}\n\n"
    ": keep-alive\r\n\r\n"
    'event: progress\r\ndata: {"step": 1,\r\ndata: "total": 15}\r\n\r\n'
    "id: 8\n\n"
    'event: job.succeeded\ndata: {"cut": "off'
).encode()
EVENTS = [
    ServerEvent(None, "progress", {"step": 0}),
    ServerEvent(7, "job.started", {"prompt": PROMPT}, "7"),
    ServerEvent(7, "progress", {"step": 1, "total": 15}, "7"),
]


class Pieces(httpx.AsyncByteStream):
    """The body of an answer as a network may deliver it."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def read(pieces: Iterable[bytes], kind: str = "text/event-stream; charset=utf-8") -> list[ServerEvent]:
    """The events of an answer with this body."""
    response = httpx.Response(200, headers={"Content-Type": kind}, stream=Pieces(pieces))
    return [event async for event in events_in(response)]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
async def test_events_are_read_whatever_the_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert await read(STREAM[start:end] for start, end in pairwise(edges)) == EVENTS


LINE = b"data: " + b"1" * 1_000 + b"\n"
LONG = EVENT_BYTES_MAX // len(LINE) + 1
"""Lines of an event that is too long."""


@pytest.mark.parametrize(
    "pieces",
    [[b"data: [1]\n\n"], [b"data: <html>\n\n"], [b"x" * 5_000_000], [LINE] * LONG, [b"id: 7\n\n", *[LINE] * LONG]],
    ids=["a list", "no JSON", "a long line", "a long event", "a long event after another"],
)
async def test_what_is_no_event_stream_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are those of the JSON library
        await read(pieces)


async def test_a_page_instead_of_an_event_stream_is_reported_as_no_darkroom() -> None:
    client = Client("http://127.0.0.1:1", "t")
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, html="<p>")))
    async with client:
        with pytest.raises(Unreachable, match=r"is not one of a Darkroom .*text/html"):
            [event async for event in client.events(7)]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
async def test_many_events_are_no_long_one_wherever_their_ends_are_cut(cut: int) -> None:
    event = b'data: {"step": "' + b"x" * (EVENT_BYTES_MAX // 2) + b'"}\r\n\r\n'
    assert len(await read([event[:-cut], event[-cut:]] * 4)) == 4


def problem(status: int, body: object) -> str:
    """The sentence for an answer."""
    return str(failure(httpx.Response(status, json=body), "http://here"))


def test_a_refused_field_is_named_with_its_path() -> None:
    body = {
        "code": "invalid_input",
        "detail": "The request does not hold.",
        "errors": [{"path": "quantity", "detail": "must be one of 1, 3, 6"}, {"path": "params.steps", "detail": "no"}],
    }
    assert problem(422, body) == "The request does not hold. quantity: must be one of 1, 3, 6; params.steps: no"


def test_a_sentence_that_names_its_fields_is_not_doubled() -> None:
    body = {"detail": "quantity: must be 1", "errors": [{"path": "quantity", "detail": "must be 1"}]}
    assert problem(422, body) == "quantity: must be 1"


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Rejected), (404, NotThere), (409, Rejected), (500, Rejected), (503, ServerBusy)]
)
def test_every_refusal_has_its_kind_and_keeps_the_detail(status: int, kind: type[Exception]) -> None:
    error = failure(httpx.Response(status, json={"detail": "So it is."}), "http://here")
    assert type(error) is kind
    assert "So it is." in str(error)


def test_a_refused_token_is_not_answered_with_advice_on_headers() -> None:
    error = failure(httpx.Response(401, json={"detail": "Send a header."}), "http://here")
    assert type(error) is NotSignedIn
    assert "--token or DARKROOM_TOKEN" in str(error)
    assert "header" not in str(error)


@pytest.mark.parametrize("body", ["<html>", "", "[]"])
def test_an_answer_of_something_else_is_not_taken_for_darkroom(body: str) -> None:
    error = failure(httpx.Response(502, text=body), "http://here")
    assert type(error) is Unreachable
    assert "502 Bad Gateway" in str(error)


def test_a_prompt_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mred\x07\ncat 猫") == "a\ufffd[31mred\ufffd\ufffdcat 猫"


class Terminal(StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "term", "screen"),
    [(Terminal(), "xterm", LiveScreen), (Terminal(), "dumb", PlainScreen), (StringIO(), "xterm", PlainScreen)],
)
def test_a_bar_is_drawn_only_where_a_terminal_can(file: StringIO, term: str, screen: type) -> None:
    console = Console(file=file, _environ={"TERM": term, "FORCE_COLOR": "1"})
    assert isinstance(screen_for(console, print), screen)


def test_a_log_gets_each_quarter_of_the_steps_once() -> None:
    lines: list[str] = []
    screen = PlainScreen(lines.append)
    screen.standing("queued, position 2, about 12 s", 0, None)
    screen.standing("queued, position 2, about 10 s", 0, None)
    for step in range(1, 17):
        screen.standing(f"processing, step {step} of 16", step, 16)
    assert lines == [
        "queued, position 2, about 12 s",
        "processing, step 1 of 16",
        "processing, step 4 of 16",
        "processing, step 8 of 16",
        "processing, step 12 of 16",
        "processing, step 16 of 16",
    ]


def test_a_history_of_one_day_has_the_date_above_and_others_in_each_line() -> None:
    def event(at: str) -> dict[str, object]:
        return {"position": 1, "at": at, "type": "job.canceled", "actor": "me", "data": {}}

    heading, *_ = history_lines([event("2031-05-04T12:00:00.123456+00:00")] * 2, None)
    assert re.search(r" 2031-05-0\d [+-]\d\d:\d\d ", heading)
    heading, first, _ = history_lines([event("2031-05-04T12:00:00+00:00"), event("2031-05-07T12:00:00+00:00")], None)
    assert " TIME " in heading
    assert re.search(r"2031-05-0\d \d\d:\d\d:00\.000 [+-]\d\d:\d\d", first)


JOB = {
    "id": "7", "status": "succeeded", "job_type": "sdxl_image_fast", "model": "sdxl-demo", "task": "t2i",
    "prompt": "a cat", "enhanced_prompt": "a cat, soft\nlight", "seed": 1, "created_at": None, "assets": [],
}  # fmt: skip


def test_a_job_shows_what_became_of_its_prompt() -> None:
    lines = job_lines(JOB, [])
    assert "prompt    a cat" in lines
    assert "enhanced  a cat, soft\ufffdlight" in lines
    assert not [line for line in job_lines(JOB | {"enhanced_prompt": None}, []) if line.startswith("enhanced")]


@pytest.mark.parametrize("kind", ["job.prompt_enhanced", "enhancement.made"])
def test_a_history_says_what_was_made_of_a_prompt_and_who_made_it(kind: str) -> None:
    data = {"original": "a cat", "enhanced": "a cat, soft light", "enhancer": "rules 1"}
    assert what_happened({"type": kind, "data": data}) == "rules 1: a cat, soft light"


async def test_a_watched_job_shows_it_once() -> None:
    lines: list[str] = []

    class Ended(Client):
        """The job has ended when it is asked for."""

        async def events(self, after: int | None) -> AsyncIterator[ServerEvent]:
            yield ServerEvent(8, "job.succeeded", {"correlation_id": "7"})

        async def job(self, job_id: str, *, position: int = 0) -> dict[str, object]:
            return JOB

    async with Ended("http://127.0.0.1:1", "t") as client:
        await watch(client, JOB | {"status": "processing"}, 7, PlainScreen(lines.append), str)
    assert lines.count("enhanced  a cat, soft\ufffdlight") == 1


def test_a_dead_job_shows_whose_it_is_why_it_failed_and_what_became_of_it() -> None:
    job = {
        "id": "11111111-2222-3333-4444-555555555555",
        "owner": "eve",
        "job_type": "video_fast",
        "attempts": 2,
        "error": {"error_class": "worker_lost", "message": "Worker gpu-1 was not heard of."},
        "quarantined": True,
        "finished_at": "2031-05-04T12:00:00Z",
        "retried_as": None,
    }
    _, first, second = dead_jobs_lines([job, job | {"quarantined": False, "retried_as": "the-other"}], None)
    assert "eve" in first
    assert "quarantined: Worker gpu-1 was not heard of. (worker_lost)" in first
    assert "quarantined" not in second
    assert " the-other " in second
