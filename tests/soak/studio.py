"""What users do with several jobs at once: batches, comparisons, preferences, items that run again; saved prompts."""

from typing import Any, Final

from domain.json_type import Json
from tests.soak.user import User
from tests.system.invariants import Submission

PROMPTS: Final = tuple(f"a {colour} circle on black" for colour in ("red", "blue", "green"))
"""What every job is of, and every saved prompt: so these have uses and ratings."""

TYPES: Final = ("sdxl_image_fast", "sdxl_image_high", "image_fast")
"""Two settings of one model, and another model."""


class Studio:
    """Batches and comparisons of a user, and the prompts that he keeps."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._rng = user.rng
        self._batches: list[str] = []
        self._comparisons: list[str] = []
        self._prompts: list[str] = []

    async def submit_a_batch(self) -> None:
        """Each item has a tag; one of them is bad."""
        tagged = [self._user.submission() for _ in range(self._rng.randint(2, 3))]
        items = [self._setting(one) | {"prompt": self._rng.choice(PROMPTS)} for one in tagged]
        items.append({"template": "bad", "job_type": "sdxl_image_fast", "prompt": ""})
        self._user.begin(self._open({"collection": "Soak", "items": items}, tagged))

    async def compare(self) -> None:
        """One prompt and one seed with two or three settings."""
        tagged = [self._user.submission() for _ in range(self._rng.randint(2, 3))]
        body = {
            "kind": "comparison",
            "prompt": self._rng.choice(PROMPTS),
            "seed": self._rng.randrange(2**31),
            "variants": [self._setting(one) for one in tagged],
        }
        self._user.begin(self._open(body, tagged))

    def _setting(self, submission: Submission) -> Json:
        job_type = self._rng.choices(TYPES, (6, 3, 1))[0]
        steps = self._rng.randint(1, 3)
        return {"job_type": job_type, "quantity": 1, "params": {"steps": steps}, "tags": [submission.tag]}

    async def _open(self, body: Json, tagged: list[Submission]) -> None:
        """Under a key, as it is worth it; sometimes once more after the answer."""
        name = f"of-{tagged[0].tag}"
        if self._user.media and self._rng.random() < 0.3:
            body["base"] = f"media:{self._rng.choice(self._user.media)}"
        call = self._user.expect("batch.opened", (name,))
        for _ in range(self._rng.choice((1, 1, 2))):
            answer = await self._user.until_answered("/v1/batches", body | {"name": name}, name)
            self._user.settle_call(call, answer)
            if not answer.is_success:
                self._user.refuse(answer, tagged)
                return
            for submission, item in zip(tagged, answer.json()["items"], strict=False):
                if item["saved"]:
                    self._user.accept(submission, item["job_id"])
                else:
                    submission.answer = "refused"
        opened = answer.json()["id"]
        self._batches.append(opened)
        if "variants" in body:
            self._comparisons.append(opened)

    async def run_items_again(self) -> None:
        """What was lost, or one item whatever became of it."""
        if not self._batches:
            return
        batch = self._rng.choice(self._batches)
        body = {"items": [0]} if self._rng.random() < 0.6 else None
        await self._user.run_again(batch, f"/v1/batches/{batch}/retry", body)

    async def prefer(self) -> None:
        """Of two pictures of a comparison, whichever are there, one."""
        if not self._comparisons:
            return
        batch = self._rng.choice(self._comparisons)
        answer = await self._user.ask("GET", f"/v1/batches/{batch}")
        if answer is None or answer.status_code != 200:
            return
        made = [_completed(item) for item in answer.json()["items"]]
        assets = [self._rng.choice(one) for one in made if one]
        if len(assets) < 2:
            return
        winner, loser = self._rng.sample(assets, 2)
        blind = self._rng.random() < 0.5
        body = {"winner": winner, "loser": loser, "blind": blind}
        path = f"/v1/batches/{batch}/preferences"
        await self._user.call("batch.preferred", (batch, winner, loser, blind), "POST", path, body)

    async def rename_a_batch(self) -> None:
        """To a name that nothing else has."""
        if self._batches:
            batch, name = self._rng.choice(self._batches), self._new_name()
            path = f"/v1/batches/{batch}"
            await self._user.call("batch.renamed", (batch, name), "PATCH", path, {"name": name})

    async def cancel_a_batch(self) -> None:
        """What is left of it."""
        if self._batches:
            await self._user.ask("POST", f"/v1/batches/{self._batches[-1]}/cancel")

    async def keep_a_prompt(self) -> None:
        """Under a key, as nobody likes to see it twice."""
        title = self._new_name()
        body = {"title": title, "prompt": self._rng.choice(PROMPTS), "job_type": self._rng.choice(TYPES), "tags": ["a"]}
        self._user.begin(self._keep(title, body))

    async def _keep(self, title: str, body: Json) -> None:
        call = self._user.expect("prompt.saved", (title,))
        for _ in range(self._rng.choice((1, 1, 2))):
            self._user.settle_call(call, await self._user.until_answered("/v1/prompts", body, title))
        if call.stream is not None:
            self._prompts.append(call.stream)

    async def edit_a_prompt(self) -> None:
        """The title, and something else with it."""
        if self._prompts:
            prompt, title = self._rng.choice(self._prompts), self._new_name()
            others: tuple[Json, ...] = ({}, {"tags": []}, {"prompt": self._rng.choice(PROMPTS)}, {"job_type": TYPES[1]})
            body: dict[str, Any] = {"title": title} | self._rng.choice(others)
            await self._user.call("prompt.edited", (prompt, title), "PATCH", f"/v1/prompts/{prompt}", body)

    async def delete_a_prompt(self) -> None:
        """One that nobody edits any more from now on."""
        if self._prompts:
            prompt = self._prompts.pop(self._rng.randrange(len(self._prompts)))
            await self._user.call("prompt.deleted", (prompt,), "DELETE", f"/v1/prompts/{prompt}")

    def _new_name(self) -> str:
        return f"{self._user.name}-{len(self._user.made.calls)}"


def _completed(item: Json) -> list[str]:
    return [asset["id"] for asset in item.get("assets", []) if asset["status"] == "completed"]
