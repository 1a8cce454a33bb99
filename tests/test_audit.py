"""The audit of what is pinned: found, not found, and not to be asked are three different things."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import audit
from tests.audit import ROOT, main, pins_in

LOCK = "# Every version\njinja2==3.1.0\nzope-interface==5.0\nidna==3.20\n"
WEAK = ("jinja2", "3.1.0")

ADVISORIES: dict[str, dict[str, Any]] = {
    "GHSA-cpwx-vrp4-4pq7": {
        "id": "GHSA-cpwx-vrp4-4pq7",
        "summary": "A sandbox that can be left",
        "aliases": ["CVE-2025-27516"],
        "affected": [
            {
                "package": {"name": "Jinja2", "ecosystem": "PyPI"},
                "ranges": [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.6"}]},
                    {"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "90457bbf"}]},
                ],
            },
            {"package": {"name": "other"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "9.9"}]}]},
        ],
    },
    "PYSEC-2025-7": {"id": "PYSEC-2025-7", "aliases": ["CVE-2025-27516", "BIT-jinja-1"]},
    "PYSEC-2025-8": {"id": "PYSEC-2025-8", "withdrawn": "2025-02-01T00:00:00Z"},
}


@dataclass
class Database:
    """A server that speaks OSV's protocol, and what it was asked."""

    url: str = ""
    known: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Ids by name and version; a list of several is given one by one, with tokens."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    instead: Callable[[str], tuple[int, bytes]] | None = None
    """Given the path: an answer in place of the right one."""

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self.instead is not None and (other := self.instead(path))[0]:
            return other
        if path.startswith("/v1/vulns/"):
            return 200, json.dumps(ADVISORIES[path.rpartition("/")[2]]).encode()
        assert path == "/v1/querybatch"
        return 200, json.dumps({"results": [self._of(query) for query in json.loads(body)["queries"]]}).encode()

    def _of(self, query: dict[str, Any]) -> dict[str, Any]:
        assert query["package"]["ecosystem"] == "PyPI"
        pin = query["package"]["name"], query["version"]
        self.asked.append(pin)
        page = int(query.get("page_token", "0"))
        ids = self.known.get(pin, [])
        more = {"next_page_token": str(page + 1)} if page + 1 < len(ids) else {}
        return {"vulns": [{"id": ids[page], "modified": "2025-01-01T00:00:00Z"}], **more} if ids else {}


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            status, content = database.answer(self.path, self.rfile.read(length))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815 - names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    database.url = f"http://127.0.0.1:{server.server_port}"
    yield database
    server.shutdown()
    serving.join()
    server.server_close()


Audit = Callable[..., tuple[int, str]]


@pytest.fixture
def audited(tmp_path: Path, database: Database, capsys: pytest.CaptureFixture[str]) -> Audit:
    """The exit code and what was said."""

    def audited(
        lock: str = LOCK, accepted: str = "", service: str | None = None, patience_s: float = 20
    ) -> tuple[int, str]:
        (tmp_path / "lock").write_text(lock, "utf-8")
        (tmp_path / "pyproject").write_text(f"[tool.darkroom.accepted-vulnerabilities]\n{accepted}\n", "utf-8")
        files = ["--lock", str(tmp_path / "lock"), "--pyproject", str(tmp_path / "pyproject")]
        code = main([*files, "--service", service or database.url, "--patience", str(patience_s)])
        return code, capsys.readouterr().out

    return audited


def test_nothing_known_passes_and_every_pin_was_asked_about(audited: Audit, database: Database) -> None:
    assert audited() == (0, "audit: no known vulnerability in 3 pinned versions\n")
    assert database.asked == pins_in(LOCK) == [WEAK, ("zope-interface", "5.0"), ("idna", "3.20")]


def test_a_vulnerability_fails_and_is_reported_once_with_all_its_names_and_what_repairs_it(
    audited: Audit, database: Database
) -> None:
    database.known[WEAK] = ["GHSA-cpwx-vrp4-4pq7", "PYSEC-2025-7", "PYSEC-2025-8"]
    code, said = audited()
    assert code == 1
    first, advice = said.splitlines()
    assert first == (
        "audit: VULNERABLE: jinja2 3.1.0: BIT-jinja-1, CVE-2025-27516, GHSA-cpwx-vrp4-4pq7, PYSEC-2025-7: "
        "A sandbox that can be left (fixed in 3.1.6)"
    )
    assert "make lock" in advice
    assert "accepted-vulnerabilities" in advice


def test_what_was_withdrawn_is_no_vulnerability(audited: Audit, database: Database) -> None:
    database.known[WEAK] = ["PYSEC-2025-8"]
    assert audited()[0] == 0


def test_one_that_is_accepted_passes_by_any_of_its_names_and_is_reported_with_the_reason(
    audited: Audit, database: Database
) -> None:
    database.known[WEAK] = ["GHSA-cpwx-vrp4-4pq7", "PYSEC-2025-7"]
    code, said = audited(accepted='BIT-jinja-1 = "no template of ours is a stranger\'s"')
    assert code == 0
    assert said.startswith("audit: accepted, no template of ours is a stranger's: jinja2 3.1.0: BIT-jinja-1, CVE-")


def test_another_one_fails_next_to_it(audited: Audit, database: Database) -> None:
    database.known = {WEAK: ["PYSEC-2025-7"], ("idna", "3.20"): ["GHSA-cpwx-vrp4-4pq7"]}
    code, said = audited(accepted='PYSEC-2025-7 = "not used"')
    assert code == 1
    assert "VULNERABLE: idna 3.20: CVE-2025-27516, GHSA-cpwx-vrp4-4pq7: A sandbox that can be left (not fixed" in said
    assert "VULNERABLE: jinja2" not in said


def test_one_that_is_accepted_and_found_no_more_is_named(audited: Audit) -> None:
    code, said = audited(accepted='PYSEC-2020-1 = "not used"')
    assert code == 0
    assert "PYSEC-2020-1 is accepted in pyproject.toml and found no more; take it out" in said


def test_what_is_found_fails_also_where_no_more_is_said_of_it(audited: Audit, database: Database) -> None:
    database.known[WEAK] = ["PYSEC-2025-7"]
    database.instead = lambda path: (503 if "vulns" in path else 0, b"")
    code, said = audited()
    assert code == 1
    assert "VULNERABLE: jinja2 3.1.0: PYSEC-2025-7: no summary" in said


NOT_OSV: list[tuple[int, bytes, str]] = [
    (403, b"", "it answered 403"),
    (404, b"", "it answered 404"),
    (302, b"", "it answered 302"),
    (500, b"", "it answered 500"),
    (200, b"<html>Please log in</html>", "it answered something that OSV does not document"),
    (200, b"{}", "it answered something that OSV does not document"),
    (200, b'{"results": [{}]}', "3 questions got 1 answers"),
]


@pytest.mark.parametrize(("status", "content", "why"), NOT_OSV)
def test_an_answer_that_is_invalid_is_said_and_passes(
    audited: Audit, database: Database, status: int, content: bytes, why: str
) -> None:
    database.instead = lambda _: (status, content)
    said = f"audit: skipped, {database.url} cannot be asked about known vulnerabilities: {why}\n"
    assert audited() == (0, said)


def test_where_nobody_listens_it_is_said_and_passes(audited: Audit) -> None:
    code, said = audited(service="http://127.0.0.1:9")
    assert code == 0
    assert "cannot be asked about known vulnerabilities: [Errno 111] Connection refused" in said


def test_a_service_that_does_not_answer_costs_no_more_than_the_patience(audited: Audit, database: Database) -> None:
    over = threading.Event()

    def never(_: str) -> tuple[int, bytes]:
        over.wait(30)
        return 503, b""

    database.instead = never
    began_s = time.monotonic()
    code, said = audited(patience_s=0.3)
    assert time.monotonic() - began_s < 10
    over.set()
    assert (code, said.rpartition(": ")[2]) == (0, "no answer within 0.3 s\n")
    for thread in [one for one in threading.enumerate() if one.name == "audit"]:
        thread.join(20)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lock": "idna>=3\n"}, "'idna>=3' is not NAME==VERSION"),
        ({"lock": "idna==3 ; python_version<'3'\n"}, "is not NAME==VERSION"),
        ({"accepted": 'PYSEC-2025-7 = " "'}, "say why: PYSEC-2025-7"),
    ],
)
def test_what_cannot_be_read_fails(audited: Audit, database: Database, given: dict[str, str], said: str) -> None:
    code, told = audited(**given)
    assert code == 2
    assert said in told
    assert database.asked == []


def test_the_lock_of_this_repository_is_what_is_asked_about(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--service", database.url]) == 0
    assert len(database.asked) == len(pins_in((ROOT / "requirements.lock").read_text("utf-8"))) > 100
    assert f"{len(database.asked)} pinned versions" in capsys.readouterr().out


def test_make_check_audits() -> None:
    _, _, recipe = (ROOT / "Makefile").read_text("utf-8").partition("\ncheck: setup")
    assert recipe.partition("\n\n")[0].endswith(f" -m {audit.__name__}")
