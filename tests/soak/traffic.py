"""What owners do meanwhile: submit, upload, cancel, retry, rate; and what they remember of the answers."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import httpx
from PIL import Image

from tests.system.invariants import Submission

Json = dict[str, Any]

ANSWER_S_MAX: Final = 10.0
AGAIN_S: Final = 0.5
"""Between two sendings of a request under one Idempotency-Key."""

PAUSE_S: Final = (0.1, 1.4)
"""Between two requests of an owner."""

WAITING_MAX: Final = 12
"""With so many of its jobs queued an owner submits no more for now: a slow machine, or a busy one, gets to rest too."""

NOT_YET: Final = (429, 503)
"""Answers that mean: ask again."""

PICTURES: Final = 6
"""Different uploads of an owner: the same content comes again, also after it was deleted."""


class Owner:
    """One user with a key. Everything that it submits is tagged, and is remembered in `said`."""

    def __init__(self, name: str, key: str, urls: Sequence[str], rng: random.Random) -> None:
        """`urls`: of each API; every request goes to any of them."""
        self.name = name
        self.said: list[Submission] = []
        self.wrong: list[str] = []
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._rng = rng
        self._urls = urls
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"}, timeout=ANSWER_S_MAX, trust_env=False
        )
        self._jobs: list[str] = []
        self._batches: list[str] = []
        self._media: list[str] = []
        self._keyed: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """One request after the other until `stop`; then until all that has a key is accepted."""
        deeds: dict[Callable[[], Awaitable[None]], int] = {
            self._submit_under_a_key: 26,
            self._submit_once: 20,
            self._submit_a_batch: 5,
            self._cancel: 12,
            self._retry: 8,
            self._curate: 16,
            self._upload: 8,
            self._delete_an_upload: 3,
            self._retry_a_batch: 2,
        }
        more = {self._submit_under_a_key, self._submit_once, self._submit_a_batch, self._retry, self._retry_a_batch}
        while not stop.is_set():
            (deed,) = self._rng.choices(list(deeds), list(deeds.values()))
            if deed not in more or not await self._has_enough():
                await deed()
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
        await asyncio.gather(*self._keyed)

    async def _has_enough(self) -> bool:
        answer = await self._ask("GET", f"/v1/jobs?status=queued&limit={WAITING_MAX}")
        return answer is not None and answer.status_code == 200 and len(answer.json()["results"]) >= WAITING_MAX

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    def _body(self) -> Json:
        """Most are quick, some take seconds; some start from an upload; some are of the other model."""
        steps = 25 if self._rng.random() < 0.12 else self._rng.randint(1, 3)
        body: Json = {
            "job_type": "sdxl_image_fast",
            "prompt": f"a {self._rng.choice(('red', 'blue', 'green'))} circle on black",
            "quantity": self._rng.choice((1, 1, 3)),
            "seed": self._rng.randrange(2**31),
            "priority": self._rng.choice((-1, 0, 0, 2)),
            "params": {"steps": steps},
        }
        if self._rng.random() < 0.06:
            body |= {"job_type": "image_fast", "quantity": 1, "params": {"steps": 2}}
        elif self._media and self._rng.random() < 0.15:
            source = f"media:{self._rng.choice(self._media)}"
            body["references"] = [{"type": "composition", "source": source, "strength": 0.5}]
        return body

    def _tagged(self) -> tuple[Json, Submission]:
        submission = Submission(f"soak-{self.name}-{len(self.said)}")
        self.said.append(submission)
        return self._body() | {"tags": [submission.tag]}, submission

    async def _submit_once(self) -> None:
        """The answer may get lost, and nobody asks again."""
        body, submission = self._tagged()
        headers = {"Cancel-After": f"{self._rng.randint(1, 20)}s"} if self._rng.random() < 0.15 else {}
        if self._rng.random() < 0.1:
            headers["Prefer"] = "wait=2"
        self._settle(await self._ask("POST", "/v1/jobs", json=body, headers=headers), submission)

    async def _submit_under_a_key(self) -> None:
        """Again and again until it is accepted; sometimes twice at the same time, sometimes once more after that."""
        body, submission = self._tagged()
        senders = 2 if self._rng.random() < 0.15 else 1
        once_more = self._rng.random() < 0.2
        for _ in range(senders):
            task = asyncio.create_task(self._until_accepted(body, submission, once_more=once_more))
            self._keyed.add(task)
            task.add_done_callback(self._keyed.discard)

    async def _until_accepted(self, body: Json, submission: Submission, *, once_more: bool) -> None:
        while True:
            answer = await self._ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": submission.tag})
            if answer is not None and answer.status_code not in NOT_YET:
                break
            await asyncio.sleep(AGAIN_S)
        known = submission.job_id
        self._settle(answer, submission)
        if known is not None and submission.job_id != known:
            self.wrong.append(f"the key {submission.tag} was answered with two jobs: {known} and {submission.job_id}")
        if once_more:
            await self._until_accepted(body, submission, once_more=False)

    async def _submit_a_batch(self) -> None:
        """Each item has a tag; one of them is bad. Under a key, as a batch is worth it."""
        tagged = [self._tagged() for _ in range(self._rng.randint(2, 3))]
        items = [body | {"template": f"item {number}"} for number, (body, _) in enumerate(tagged)]
        items.append({"template": "bad", "job_type": "sdxl_image_fast", "prompt": ""})
        content = {"name": "Soaked", "collection": "Soak", "items": items}
        key = f"batch-{tagged[0][1].tag}"
        answer = None
        for _ in range(20):
            answer = await self._ask("POST", "/v1/batches", json=content, headers={"Idempotency-Key": key})
            if answer is not None and answer.status_code not in NOT_YET:
                break
            await asyncio.sleep(AGAIN_S)
        else:
            return
        if answer.status_code not in {200, 202}:
            self._refuse(answer, [submission for _, submission in tagged])
            return
        document = answer.json()
        self._batches.append(document["id"])
        for item, (_, submission) in zip(document["items"], tagged, strict=False):
            if not item["saved"]:
                submission.answer = "refused"
                continue
            submission.answer, submission.job_id = "accepted", item["job_id"]
            self._jobs.append(item["job_id"])

    async def _retry_a_batch(self) -> None:
        if self._batches:
            await self._ask("POST", f"/v1/batches/{self._rng.choice(self._batches)}/retry")

    async def _cancel(self) -> None:
        if self._jobs:
            await self._ask("POST", f"/v1/jobs/{self._rng.choice(self._jobs[-8:])}/cancel")

    async def _retry(self) -> None:
        if self._jobs:
            await self._ask("POST", f"/v1/jobs/{self._rng.choice(self._jobs)}/retry")

    async def _curate(self) -> None:
        answer = await self._ask("GET", "/v1/library?limit=20")
        if answer is None or answer.status_code != 200 or not answer.json()["results"]:
            return
        asset = self._rng.choice(answer.json()["results"])
        path = f"/v1/assets/{asset['id']}"
        match self._rng.choice(("rate", "rate", "save", "name", "dismiss", "trash")):
            case "rate":
                await self._ask("PUT", f"{path}/rating", json={"score": self._rng.randint(1, 5)})
            case "save":
                await self._ask(self._rng.choice(("PUT", "DELETE")), f"{path}/saved")
            case "name":
                await self._ask("PATCH", path, json={"title": "Soaked", "tags": ["wet", self._rng.choice("abc")]})
            case "dismiss":
                await self._ask("DELETE", f"/v1/workspace/{asset['id']}")
            case _:
                await self._ask("DELETE", path)
                await self._ask("POST", f"{path}/restore")

    async def _upload(self) -> None:
        file = io.BytesIO()
        colour = tuple(20 * self._rng.randrange(PICTURES) + part for part in (0, 40, 80))
        Image.new("RGB", (64, 48), colour).save(file, "PNG")
        answer = await self._ask("POST", "/v1/uploads", files={"file": ("picture.png", file.getvalue())})
        if answer is not None and answer.status_code in {200, 201} and answer.json()["id"] not in self._media:
            self._media.append(answer.json()["id"])

    async def _delete_an_upload(self) -> None:
        if self._media:
            media = self._rng.choice(self._media)
            answer = await self._ask("DELETE", f"/v1/uploads/{media}")
            if answer is not None and answer.status_code == 204:
                self._media.remove(media)

    async def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response | None:
        """The answer; None when it was lost. An answer that no documentation promises is remembered."""
        try:
            answer = await self._http.request(method, f"{self._rng.choice(self._urls)}{path}", **kwargs)
        except httpx.TransportError:
            self.requests["lost"] += 1
            return None
        self.requests[str(answer.status_code)] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.wrong.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def _settle(self, answer: httpx.Response | None, submission: Submission) -> None:
        if answer is None or answer.status_code == 503:
            return  # it may have landed
        if answer.status_code in {200, 202}:
            submission.answer, submission.job_id = "accepted", answer.json()["id"]
            self._jobs.append(answer.json()["id"])
        else:
            self._refuse(answer, [submission])

    def _refuse(self, answer: httpx.Response, submissions: list[Submission]) -> None:
        for submission in submissions:
            if submission.answer == "accepted":
                self.wrong.append(f"{submission.tag} was accepted and then refused: {answer.text[:300]}")
            submission.answer = "refused"
        self.refusals[answer.json()["detail"]] += 1
        if answer.json()["code"] not in {"invalid_input", "rate_limited", "not_found"}:
            self.wrong.append(f"a submit was refused: {answer.status_code} {answer.text[:300]}")
