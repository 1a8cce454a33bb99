"""What owners do meanwhile: submit, upload, cancel, retry, rate; and, as `studio` has it, much at once."""

import asyncio
import io
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from PIL import Image

from domain.json_type import Json
from tests.soak.studio import PROMPTS, Studio
from tests.soak.user import User
from tests.system.invariants import Submission

PAUSE_S: Final = (0.1, 1.2)
"""Between two requests of an owner."""

WAITING_MAX: Final = 12
"""With so many of its jobs queued an owner submits no more for now: a slow machine, or a busy one, gets to rest too."""

PICTURES: Final = 6
"""Different uploads of an owner: the same content comes again, also after it was deleted."""


class Owner(User):
    """A user who does one thing after the other. Everything that it submits is tagged."""

    def __init__(self, name: str, key: str, urls: Sequence[str], rng: random.Random) -> None:
        """See `User`."""
        super().__init__(name, key, urls, rng)
        self._studio = Studio(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Each deed once, and then whatever comes, until `stop`; then until all that has a key is accepted."""
        studio = self._studio
        more: dict[Callable[[], Awaitable[None]], int] = {
            self._submit_under_a_key: 26,
            self._submit_once: 20,
            self._retry: 8,
            studio.submit_a_batch: 4,
            studio.compare: 5,
            studio.run_items_again: 5,
        }
        deeds: dict[Callable[[], Awaitable[None]], int] = more | {
            self._cancel: 12,
            self._curate: 18,
            self._upload: 8,
            self._delete_an_upload: 3,
            studio.prefer: 12,
            studio.rename_a_batch: 3,
            studio.cancel_a_batch: 1,
            studio.keep_a_prompt: 6,
            studio.edit_a_prompt: 6,
            studio.delete_a_prompt: 3,
        }
        first = self.rng.sample(list(deeds), len(deeds))
        while not stop.is_set():
            deed = first.pop() if first else self.rng.choices(list(deeds), list(deeds.values()))[0]
            if deed not in more or not await self._has_enough():
                await deed()
            await asyncio.sleep(self.rng.uniform(*PAUSE_S))
        await self.rest()

    async def _has_enough(self) -> bool:
        answer = await self.ask("GET", f"/v1/jobs?status=queued&limit={WAITING_MAX}")
        return answer is not None and answer.status_code == 200 and len(answer.json()["results"]) >= WAITING_MAX

    def _body(self) -> Json:
        """Most are quick, some take seconds; some start from an upload; some are of the other model."""
        steps = 25 if self.rng.random() < 0.12 else self.rng.randint(1, 3)
        body: Json = {
            "job_type": "sdxl_image_fast",
            "prompt": self.rng.choice(PROMPTS),
            "quantity": self.rng.choice((1, 1, 3)),
            "seed": self.rng.randrange(2**31),
            "priority": self.rng.choice((-1, 0, 0, 2)),
            "params": {"steps": steps},
        }
        if self.rng.random() < 0.06:
            body |= {"job_type": "image_fast", "quantity": 1, "params": {"steps": 2}}
        elif self.media and self.rng.random() < 0.15:
            source = f"media:{self.rng.choice(self.media)}"
            body["references"] = [{"type": "composition", "source": source, "strength": 0.5}]
        return body

    def _tagged(self) -> tuple[Json, Submission]:
        submission = self.submission()
        return self._body() | {"tags": [submission.tag]}, submission

    async def _submit_once(self) -> None:
        """The answer may get lost, and nobody asks again."""
        body, submission = self._tagged()
        headers = {"Cancel-After": f"{self.rng.randint(1, 20)}s"} if self.rng.random() < 0.15 else {}
        if self.rng.random() < 0.1:
            headers["Prefer"] = "wait=2"
        self.settle(await self.ask("POST", "/v1/jobs", json=body, headers=headers), submission)

    async def _submit_under_a_key(self) -> None:
        """Again and again until it is accepted; sometimes twice at the same time, sometimes once more after that."""
        body, submission = self._tagged()
        times = 2 if self.rng.random() < 0.2 else 1
        for _ in range(2 if self.rng.random() < 0.15 else 1):
            self.begin(self._until_accepted(body, submission, times))

    async def _until_accepted(self, body: Json, submission: Submission, times: int) -> None:
        for _ in range(times):
            self.settle(await self.until_answered("/v1/jobs", body, submission.tag), submission)

    async def _cancel(self) -> None:
        if self.jobs:
            await self.ask("POST", f"/v1/jobs/{self.rng.choice(self.jobs[-8:])}/cancel")

    async def _retry(self) -> None:
        if self.jobs:
            job = self.rng.choice(self.jobs)
            await self.run_again(job, f"/v1/jobs/{job}/retry")

    async def _curate(self) -> None:
        answer = await self.ask("GET", "/v1/library?limit=20")
        if answer is None or answer.status_code != 200 or not answer.json()["results"]:
            return
        asset = self.rng.choice(answer.json()["results"])
        path = f"/v1/assets/{asset['id']}"
        match self.rng.choice(("rate", "rate", "rate", "save", "name", "dismiss", "trash")):
            case "rate":
                score = self.rng.randint(1, 5)
                await self.call("asset.rated", (asset["id"], score), "PUT", f"{path}/rating", {"score": score})
            case "save":
                await self.ask(self.rng.choice(("PUT", "DELETE")), f"{path}/saved")
            case "name":
                await self.ask("PATCH", path, json={"title": "Soaked", "tags": ["wet", self.rng.choice("abc")]})
            case "dismiss":
                await self.ask("DELETE", f"/v1/workspace/{asset['id']}")
            case _:
                await self.ask("DELETE", path)
                await self.ask("POST", f"{path}/restore")

    async def _upload(self) -> None:
        file = io.BytesIO()
        colour = tuple(20 * self.rng.randrange(PICTURES) + part for part in (0, 40, 80))
        Image.new("RGB", (64, 48), colour).save(file, "PNG")
        answer = await self.ask("POST", "/v1/uploads", files={"file": ("picture.png", file.getvalue())})
        if answer is not None and answer.status_code in {200, 201} and answer.json()["id"] not in self.media:
            self.media.append(answer.json()["id"])

    async def _delete_an_upload(self) -> None:
        if self.media:
            media = self.rng.choice(self.media)
            answer = await self.ask("DELETE", f"/v1/uploads/{media}")
            if answer is not None and answer.status_code == 204:
                self.media.remove(media)
