"""One user of the installation: asks any API, and remembers what is to be held against the ledger afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx

from tests.system.calls import Call, Made, Mark, Retry
from tests.system.invariants import Submission

Json = dict[str, Any]

ANSWER_S_MAX: Final = 10.0
AGAIN_S: Final = 0.5
"""Between two sendings of a request under one Idempotency-Key."""

NOT_YET: Final = (429, 503)
"""Answers that mean: ask again."""

REFUSALS: Final = {"invalid_input", "rate_limited", "not_found"}
"""What a submit may be refused for: an upload that it names may be gone."""

GONE: Final = "there is no media:"
"""How an answer says so."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An answer that is not the one of before; right only if a restore took what that was about (`of`: its streams)."""

    sentence: str
    of: frozenset[str]


class User:
    """A user with a key. `said` are the submits, `made` all other calls; `wrong` answers that nobody promises.

    `contradictions` are wrong as well, unless a backup was put back in between.
    """

    def __init__(self, name: str, key: str, urls: Sequence[str], rng: random.Random) -> None:
        """`urls`: of each API; every request goes to any of them. `jobs` and `media`: ids of what there is."""
        self.name = name
        self.rng = rng
        self.said: list[Submission] = []
        self.made = Made()
        self.jobs: list[str] = []
        self.media: list[str] = []
        self.wrong: list[str] = []
        self.contradictions: list[Contradiction] = []
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._urls = urls
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"}, timeout=ANSWER_S_MAX, trust_env=False
        )
        self._begun: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    def begin(self, deed: Coroutine[Any, Any, None]) -> None:
        """Do it next to everything else; `rest` waits for it."""
        task = asyncio.create_task(deed)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def rest(self) -> None:
        """Wait for everything that was begun."""
        await asyncio.gather(*self._begun)

    async def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response | None:
        """The answer; None when it was lost."""
        try:
            answer = await self._http.request(method, f"{self.rng.choice(self._urls)}{path}", **kwargs)
        except httpx.TransportError:
            self.requests["lost"] += 1
            return None
        self.requests[str(answer.status_code)] += 1
        if not _is_promised(answer):
            self.wrong.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer

    async def until_answered(self, path: str, body: Json | None, key: str) -> httpx.Response:
        """Post under an Idempotency-Key, again and again until there is an answer that counts."""
        while True:
            answer = await self.ask("POST", path, json=body, headers={"Idempotency-Key": key})
            if answer is not None and answer.status_code not in NOT_YET:
                return answer
            await asyncio.sleep(AGAIN_S)

    async def call(self, name: str, mark: Mark, method: str, path: str, body: Json | None = None) -> None:
        """Ask once for something that appends a fact of this name and mark."""
        call = self.expect(name, mark)
        self.settle_call(call, await self.ask(method, path, json=body))

    def expect(self, name: str, mark: Mark) -> Call:
        """A call that is about to be made."""
        call = Call(self.name, name, mark)
        self.made.calls.append(call)
        return call

    def settle_call(self, call: Call, answer: httpx.Response | None) -> None:
        """What became of a call. Sent again, it has to be answered with the same."""
        before, call.answer = call.stream, outcome_of(answer)
        if answer is None or call.answer != "accepted":
            return
        call.position = int(answer.headers["Darkroom-Position"])
        call.stream = answer.json().get("id") if answer.content else None
        if before is not None and before != call.stream:
            self._contradict(f"{call} was answered with {before} before", before)

    async def run_again(self, of: str, path: str, body: Json | None = None) -> None:
        """Ask for outputs of a job or batch again: under a key, once more after the answer or not; or without one."""
        again = Retry(self.name, of)
        self.made.retries.append(again)
        if self.rng.random() < 0.3:
            self._settle_again(again, await self.ask("POST", path, json=body))
        else:
            key = f"again-{len(self.made.retries)}"
            self.begin(self._again_under_a_key(again, path, body, key, self.rng.choice((1, 1, 2))))

    async def _again_under_a_key(self, again: Retry, path: str, body: Json | None, key: str, times: int) -> None:
        for _ in range(times):
            self._settle_again(again, await self.until_answered(path, body, key))

    def _settle_again(self, again: Retry, answer: httpx.Response | None) -> None:
        before, again.answer = again.jobs, outcome_of(answer)
        if answer is not None and again.answer == "accepted":
            document = answer.json()
            items = document["items"] if "items" in document else [{"saved": True, "job_id": document["id"]}]
            again.jobs = [item["job_id"] for item in items if item["saved"]]
            self.jobs += again.jobs
        if before and (again.jobs != before or again.answer != "accepted"):
            self._contradict(f"{again} was answered with {before} before", *before, again.of)

    def submission(self) -> Submission:
        """A submit that is about to be made."""
        submission = Submission(f"soak-{self.name}-{len(self.said)}")
        self.said.append(submission)
        return submission

    def settle(self, answer: httpx.Response | None, submission: Submission) -> None:
        """What became of a submit."""
        match outcome_of(answer):
            case "accepted":
                assert answer is not None
                self.accept(submission, answer.json()["id"])
            case "refused":
                assert answer is not None
                self.refuse(answer, [submission])
            case "doubtful":
                pass  # it may have landed

    def accept(self, submission: Submission, job_id: str) -> None:
        """It has this job. Sent again, it has to have the same."""
        if submission.job_id not in (None, job_id):
            sentence = f"{submission.tag} was answered with two jobs: {submission.job_id} and {job_id}"
            self._contradict(sentence, submission.job_id)
        submission.answer, submission.job_id = "accepted", job_id
        self.jobs.append(job_id)

    def refuse(self, answer: httpx.Response, submissions: Sequence[Submission]) -> None:
        """None of them has a job."""
        for submission in submissions:
            if submission.job_id is not None:
                sentence = f"{submission.tag} was accepted and then refused: {answer.text[:300]}"
                self._contradict(sentence, submission.job_id)
            submission.answer = "refused"
        self.refusals[answer.json()["detail"]] += 1
        if answer.json()["code"] not in REFUSALS:
            self.wrong.append(f"a submit was refused: {answer.status_code} {answer.text[:300]}")

    def _contradict(self, sentence: str, *of: str) -> None:
        self.contradictions.append(Contradiction(sentence, frozenset(of)))


def outcome_of(answer: httpx.Response | None) -> Literal["accepted", "refused", "doubtful"]:
    """What an answer says of its request."""
    if answer is None or answer.status_code == 503:
        return "doubtful"
    return "accepted" if answer.is_success else "refused"


def _is_promised(answer: httpx.Response) -> bool:
    """Requests here are fine, but for an upload that is deleted meanwhile; the API may be without Postgres or NATS."""
    if answer.status_code in {400, 422}:
        return all(GONE in problem["detail"] for problem in answer.json().get("errors") or [{"detail": ""}])
    return answer.status_code < 500 or answer.status_code == 503
