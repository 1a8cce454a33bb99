"""Bodies over real sockets: however large they are and however the bytes are cut, each request gets its answer."""

import asyncio
import hashlib
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

import httpx
import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from api.http import protocol as connections
from api.http.limits import request_limits as limits
from domain.json_type import Json
from tests.api.conftest import bearer
from tests.api.echo import PATIENCE_S, Received, echo, in_a_thread
from tests.api.serving import AServer, Site

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture(scope="module")
def received() -> Received:
    """What the echoing server has read."""
    return Received()


@pytest.fixture(scope="module")
def echoing(received: Received) -> Iterator[tuple[str, int]]:
    """Where bodies are echoed."""
    with in_a_thread(echo, received.connection()) as served:
        yield served


@dataclass(frozen=True)
class Sent:
    """A request: its path, its body, and how that travels."""

    path: str
    body: bytes
    chunk_bytes: int | None = None
    filler_bytes: int = 0

    @property
    def wire(self) -> bytes:
        """Its bytes."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nX-Filler: {'f' * self.filler_bytes}\r\n"
        if self.chunk_bytes is None:
            return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body
        pieces = [self.body[at : at + self.chunk_bytes] for at in range(0, len(self.body), self.chunk_bytes)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"

    @property
    def answer(self) -> tuple[int, Json]:
        """What it is to be answered."""
        if self.path == "/refuse":
            return 413, {"code": "body_too_large"}
        return 200, {"bytes": len(self.body), "sha256": hashlib.sha256(self.body).hexdigest()}


def exchanged(server: tuple[str, int], received: Received, sent: list[Sent], cuts: list[int]) -> list[tuple[int, Json]]:
    """The answers to requests that are sent one after the other over one connection, in segments cut there."""
    wire = b"".join(each.wire for each in sent)
    places = [0, *sorted({cut % len(wire) for cut in cuts} - {0}), len(wire)]
    received.start()
    with connected(server) as (connection, answers):

        def send() -> None:
            for begin, end in pairwise(places):
                connection.sendall(wire[begin:end])
                received.wait_for(end)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            return [_answer(answers) for _ in sent]
        finally:
            sending.join(PATIENCE_S)


@contextmanager
def connected(server: tuple[str, int]) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """A connection, and what comes back over it."""
    with socket.create_connection(server, PATIENCE_S) as line, line.makefile("rb") as answers:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line, answers


def _answer(answers: BinaryIO) -> tuple[int, Json]:
    status = int(answers.readline().split()[1])
    headers = http.client.parse_headers(answers)
    return status, json.loads(answers.read(int(headers["Content-Length"])))


SIZES = st.one_of(
    st.integers(0, 200),
    st.sampled_from([32 * KIB - 1, 32 * KIB, 32 * KIB + 1, 64 * KIB, 100_000, 256 * KIB, 300_000, MIB, 3 * MIB]),
)
REQUESTS = st.lists(
    st.builds(
        Sent,
        path=st.sampled_from(["/", "/", "/refuse"]),
        body=st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.sampled_from(b"x \r\n\0")),
        chunk_bytes=st.sampled_from([None, None, 1 * KIB, 50_000]),
        filler_bytes=st.sampled_from([0, 10, 5_000, 30_000]),
    ),
    min_size=1,
    max_size=5,
)
CUTS = st.lists(st.integers(0, 20 * MIB), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=REQUESTS, cuts=CUTS)
@example(sent=[Sent("/", b"x" * 302_000)], cuts=[])
@example(sent=[Sent("/", b"x" * 302_000)], cuts=[80])
@example(sent=[Sent("/", b"x" * 40_000)] * 3, cuts=[80, 40_000, 40_085, 80_100])
@example(sent=[Sent("/refuse", b"x" * 300_000), Sent("/", b"y")], cuts=[100, 5_000])
@example(sent=[Sent("/refuse", b"x" * 300_000, 1_000), Sent("/", b"y" * 70_000, 1_000)], cuts=[100, 5_000])
def test_however_the_bytes_are_cut_each_request_is_answered(
    echoing: tuple[str, int], received: Received, sent: list[Sent], cuts: list[int]
) -> None:
    assert exchanged(echoing, received, sent, cuts) == [each.answer for each in sent]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(over=st.sampled_from([-200, -1, 0, 1, 200, 20_000]), cuts=CUTS, body_bytes=st.sampled_from([0, 50_000]))
def test_a_head_is_judged_by_its_own_size_however_it_is_cut(
    guarded: tuple[str, int], received: Received, over: int, cuts: list[int], body_bytes: int
) -> None:
    bare = len(Sent("/", b"").wire)
    request = Sent("/", b"b" * body_bytes, filler_bytes=limits.HEAD_BYTES_MAX - bare + over)
    before = Sent("/", b"a" * 1000)
    head_bytes = len(request.wire) - body_bytes
    answers = exchanged(guarded, received, [before, request], cuts)
    assert answers[0] == before.answer
    if head_bytes <= limits.HEAD_BYTES_MAX:
        assert answers[1] == request.answer
    else:
        assert (answers[1][0], answers[1][1]["code"]) == (431, "head_too_large")


@pytest.fixture(scope="module")
def guarded(received: Received) -> Iterator[tuple[str, int]]:
    """The same behind the bound on heads."""
    with in_a_thread(limits.BoundedRequests(echo), received.connection()) as served:
        yield served


def test_blank_lines_after_a_body_do_not_cut_off_its_answer(
    received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old clients send them; the request may be in work for longer than a head may take."""
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.2)
    held = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.to_thread(held.wait, PATIENCE_S)
        await echo(scope, receive, send)

    with in_a_thread(slow, received.connection()) as server, connected(server) as (line, answers):
        received.start()
        request = Sent("/", b"x" * 100)
        line.sendall(request.wire)
        received.wait_for(len(request.wire))
        line.sendall(b"\r\n")
        received.wait_for(len(request.wire) + 2)
        threading.Timer(0.6, held.set).start()
        assert _answer(answers) == request.answer


def test_what_is_no_http_is_refused_after_the_answers_before_it(echoing: tuple[str, int], received: Received) -> None:
    with connected(echoing) as (line, answers):
        line.sendall(Sent("/", b"x" * 40_000).wire + b"\0\1\2 nonsense\r\n\r\n")
        assert _answer(answers)[0] == 200
        status, problem = _answer(answers)
        assert (status, problem["code"]) == (400, "bad_request")
        assert line.recv(1) == b""


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nhost: a\r\n"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_request_names_one_host(echoing: tuple[str, int], hosts: bytes, before: int) -> None:
    earlier = [Sent("/", b"x" * 9_000)] * before
    with connected(echoing) as (line, answers):
        line.sendall(b"".join(each.wire for each in earlier) + b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
        assert [_answer(answers) for _ in earlier] == [each.answer for each in earlier]
        status, problem = _answer(answers)
        assert (status, problem["code"]) == (400, "bad_request")
        assert line.recv(1) == b""


def test_http_1_0_needs_no_host(echoing: tuple[str, int]) -> None:
    with connected(echoing) as (line, answers):
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert _answer(answers)[0] == 200


CHUNKED = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("broken", [b"zz\r\n", b"3\r\nabcdef\r\n", b"5\r\nhello\r\n-1\r\n", b"0\r\nno trailer\r\n\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_that_breaks_off_is_refused_at_once_after_the_answers_before_it(
    echoing: tuple[str, int], received: Received, before: int, broken: bytes, at_once: bool
) -> None:
    received.start()
    earlier = [Sent("/", b"x" * 9_000)] * before
    head = b"".join(each.wire for each in earlier) + CHUNKED % b"/"
    with connected(echoing) as (line, answers):
        line.sendall(head + broken if at_once else head)
        if not at_once:
            received.wait_for(len(head))
            line.sendall(broken)
        assert [_answer(answers) for _ in earlier] == [each.answer for each in earlier]
        status, problem = _answer(answers)
        assert (status, problem["code"]) == (400, "bad_request")
        assert line.recv(1) == b""


@pytest.mark.parametrize("piece", [b"X-More: 1\r\n", b"x" * 20])
def test_trailers_without_an_end_are_refused(echoing: tuple[str, int], received: Received, piece: bytes) -> None:
    with connected(echoing) as (line, answers):
        line.sendall(CHUNKED % b"/" + b"5\r\nhello\r\n0\r\nX-First: ")
        for _ in range(5 * limits.HEAD_BYTES_MAX // len(piece)):
            with suppress(ConnectionError):
                line.sendall(piece)
        status, problem = _answer(answers)
        assert (status, problem["code"]) == (431, "head_too_large")


def test_chunks_of_one_byte_and_trailers_are_no_fault(echoing: tuple[str, int], received: Received) -> None:
    body = b"y" * 20_000
    with connected(echoing) as (line, answers):
        line.sendall(CHUNKED % b"/")
        for _ in range(0, len(body), 100):
            line.sendall(b"1;name=value\r\ny\r\n" * 100)
        line.sendall(b"0\r\nX-More: 1\r\nX-Yet-More: 2\r\n\r\n")
        assert _answer(answers) == Sent("/", body).answer


@pytest.mark.parametrize("size", [0, 300_000])
def test_a_client_that_offers_http2_gets_its_answer(echoing: tuple[str, int], received: Received, size: int) -> None:
    """As Java's client does by itself."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    body = b"x" * size
    with connected(echoing) as (line, answers):
        for _ in range(2):
            line.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{offer}Content-Length: {size}\r\n\r\n".encode())
            line.sendall(body)
            assert _answer(answers) == Sent("/", body).answer


def test_a_body_that_nobody_wants_is_read_up_to_a_bound(
    echoing: tuple[str, int], received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNWANTED_BYTES_MAX", 1 * MIB)
    with connected(echoing) as (line, answers):
        line.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert _answer(answers)[0] == 413
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            line.sendall(b"10000\r\n%s\r\n" % (b"x" * 65536) * 2000)


def by_requests(url: str, content: bytes) -> tuple[int, Json]:
    """With the client that most scripts use."""
    answer = requests.post(url, data=content, headers=HEADERS, timeout=PATIENCE_S)
    return answer.status_code, answer.json()


def by_requests_in_chunks(url: str, content: bytes) -> tuple[int, Json]:
    """The same, of a body whose size it does not know."""
    answer = requests.post(url, data=iter([content]), headers=HEADERS, timeout=PATIENCE_S)
    return answer.status_code, answer.json()


def by_urllib(url: str, content: bytes) -> tuple[int, Json]:
    """With the standard library."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, HEADERS), timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def by_httpx(url: str, content: bytes) -> tuple[int, Json]:
    """With the other client of many scripts."""
    answer = httpx.post(url, content=content, headers=HEADERS, timeout=PATIENCE_S, trust_env=False)
    return answer.status_code, answer.json()


HEADERS = bearer() | {"Content-Type": "application/json"}
CLIENTS = [by_requests, by_requests_in_chunks, by_urllib, by_httpx]


@pytest.mark.parametrize("post", CLIENTS)
@pytest.mark.parametrize("size_bytes", [2 * MIB, 40 * MIB])
async def test_clients_see_why_a_body_was_refused(
    site: Site, server: AServer, post: Callable[[str, bytes], tuple[int, Json]], size_bytes: int
) -> None:
    status, problem = await asyncio.to_thread(post, f"{server.url}/v1/jobs", b" " * size_bytes)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert site.ledger.head() == 0


@pytest.mark.parametrize("post", CLIENTS)
async def test_clients_see_that_their_token_is_wrong_whatever_they_send(
    site: Site, server: AServer, post: Callable[[str, bytes], tuple[int, Json]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADERS, "Authorization", "Bearer wrong")
    status, problem = await asyncio.to_thread(post, f"{server.url}/v1/uploads", b" " * (8 * MIB))
    assert (status, problem["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("size_bytes", [20_000, 33_000, 100_000, 240_000, 900_000])
@pytest.mark.parametrize("apart", [True, False])
async def test_a_job_with_a_large_body_is_accepted(site: Site, server: AServer, size_bytes: int, apart: bool) -> None:
    body = json.dumps({"job_type": "sdxl_image_fast", "prompt": "p" * 9000}).encode()
    body = body[:-1] + b" " * (size_bytes - len(body)) + b"}"
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()) + "\r\n"

    def post() -> tuple[int, Json]:
        with connected(("127.0.0.1", server.port)) as (line, answers):
            for piece in (head.encode(), body) if apart else (head.encode() + body,):
                line.sendall(piece)
            return _answer(answers)

    for _ in range(5):
        status, job = await asyncio.to_thread(post)
        assert (status, job["status"]) == (202, "queued")
