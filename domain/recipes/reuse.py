"""The inputs of a stored job, to fill a form: its recipe, checked against the current catalog.

Each input that is no longer possible is skipped with its reason; the others are not affected.
"""

from collections.abc import Mapping
from typing import Any

from domain.errors import InvalidInput
from domain.recipes.catalog import FIELDS, Catalog, JobType
from domain.recipes.cautions import RecipeCaution
from domain.recipes.continuation import decided_by, problem_with
from domain.recipes.inputs import FormInputs, Input, Skipped
from domain.recipes.params import Param, in_order
from domain.recipes.recipe import SEED_MAX, InputFile, ParamValue, seeds_from
from domain.recipes.stored_recipe import StoredRecipe, read_stored
from domain.warning_codes import WarningCode
from domain.wording.negative_prompt import is_made_by_rule


def inputs_of(
    request: Mapping[str, Any],
    catalog: Catalog,
    unusable: Mapping[str, str],
    job_type: str | None = None,
    video: InputFile | None = None,
) -> FormInputs:
    """The inputs of a job from its `job.queued` as JSON; of a damaged event, everything that can be read.

    `unusable` maps paths such as `media.image` and `references.0.source` to the reason why the file cannot be used.
    `video` is the file of `media.video`. `job_type` replaces that of the job. Raises `InvalidInput` if the catalog does
    not have it.
    """
    stored = read_stored(request)
    reading = _Reading(catalog, stored)
    if job_type is not None:
        reading.use(job_type, catalog.job_type(job_type))
    else:
        reading.find_job_type()
    reading.take_amount()
    reading.take_negative_prompt()
    reading.take_files(unusable, video)
    reading.take_params(video)
    reading.judge()
    return reading.result()


class _Reading:
    """Reads one input after another from a stored recipe and records what is skipped."""

    def __init__(self, catalog: Catalog, stored: StoredRecipe) -> None:
        self._catalog = catalog
        self._stored = stored
        self._name: str | None = None
        self._entry: JobType | None = None
        self._model_is_known = stored.model in catalog.models
        self._model = stored.model if self._model_is_known else None
        self._task: str | None = stored.task
        self._inputs: list[Input] = []
        self._references = dict(stored.references)
        self._media = dict(stored.media)
        self._skipped: list[Skipped] = []
        self._warnings: list[RecipeCaution] = []

    def use(self, name: str | None, entry: JobType) -> None:
        """Use this job type from now on. Without a name it is a substitute for one that no longer exists."""
        self._name, self._entry, self._model = name, entry, entry.model

    def find_job_type(self) -> None:
        """The job's own type, else one with the same model and task."""
        stored, catalog = self._stored, self._catalog
        entry = catalog.job_types.get(stored.job_type or "")
        if entry is not None:
            self.use(stored.job_type, entry)
            if stored.model is not None and stored.model != entry.model:
                self._warn_of_model(stored.model, f"; {stored.job_type} runs on {entry.model} now")
            return
        found = catalog.job_type_with(stored.model or "", stored.task or "")
        if found is not None:
            self.use(None, found[1])
        if stored.job_type is not None:
            instead = f"{found[0]} has its model and does {stored.task} too" if found else "choose another one"
            self._warn(
                WarningCode.JOB_TYPE_UNKNOWN, f"The catalog has no job type {stored.job_type} any more; {instead}."
            )
        if stored.model is not None and not self._model_is_known:
            self._warn_of_model(stored.model, "")

    def take_amount(self) -> None:
        """Quantity and seed. A retry of single outputs may have a quantity that submissions cannot ask for."""
        seeds = self._stored.seeds
        if not seeds:
            return
        count = len(seeds)
        if self._entry is not None:
            try:
                self._catalog.quantity(self._entry, count)
            except InvalidInput as refused:
                self._skip("quantity", f"was {count}; {refused.problems[0].detail}")
                count = 0
        if count:
            self._inputs.append(Input("quantity", count))
        least = count
        if self._entry is not None and not count:
            least = self._catalog.quantity(self._entry, None)
        if seeds[0] + least - 1 > SEED_MAX:
            self._skip("seed", f"must be at most {SEED_MAX - least + 1} for {least} images: each has the next seed")
            return
        self._inputs.append(Input("seed", seeds[0]))
        if count and seeds != seeds_from(seeds[0], count):
            had = ", ".join(map(str, seeds))
            self._warn(WarningCode.SEEDS_CHANGED, f"The seeds were {had}; those of a new job count up from the first.")

    def take_negative_prompt(self) -> None:
        """Only one written by the owner; one made by rule is made again."""
        text, by = self._stored.negative_prompt, self._stored.negative_prompt_by
        # Older retries did not always record who wrote it.
        if text is not None and (by == "owner" or (by is None and not is_made_by_rule(text, self._stored.prompt))):
            self._inputs.append(Input("negative_prompt", text))

    def take_params(self, video: InputFile | None) -> None:
        """Parents first: a parent's value, stored or default, decides whether its dependents apply.

        The video to extend sets size and frame rate; stored values are ignored.
        """
        asked = self._stored.params
        known = self._known_params()
        decided = decided_by(video) if video is not None and "video" in self._media else {}
        asked = {name: value for name, value in asked.items() if decided.get(name, value) == value}
        has_picture = bool(self._references) or "image" in self._media
        values: dict[str, ParamValue] = {}
        for name, param in known.items():
            if param.needs_picture and not has_picture:
                continue  # skipped together with the images, which are reported
            if not param.holds(values):
                if name in asked:
                    self._skip(name, f"only with {param.condition_text()}")
                continue
            value = asked.get(name)
            problem = param.problem_with(value) if name in asked and name not in decided else None
            if problem is not None:
                self._skip(name, f"was {_shown(value)}; {problem}")
            elif value is not None:
                self._inputs.append(Input(name, value, param.conditions))
            taken = self._default(name) if value is None or problem is not None else value
            if taken is not None:
                values[name] = param.coerced(taken)
        for name in asked:
            if name not in known and self._entry is not None:
                self._skip(name, f"unknown; allowed: {', '.join(sorted(known))}")
            elif name not in known and name not in FIELDS:
                self._inputs.append(Input(name, asked[name]))

    def take_files(self, unusable: Mapping[str, str], video: InputFile | None) -> None:
        """References and media that still exist and that the model still accepts."""
        if video is not None and self._entry is not None:
            problem = problem_with(video, self._known_params())
            unusable = {**unusable, **({} if problem is None else {"media.video": problem})}
        gone = []
        for place, reference in self._stored.references.items():
            if f"references.{place}.source" in unusable:
                del self._references[place]
                self._skip(f"references.{place}", unusable[f"references.{place}.source"])
                gone.append(reference.source)
        for medium, source in self._stored.media.items():
            if f"media.{medium}" in unusable:
                del self._media[medium]
                self._skip(f"media.{medium}", unusable[f"media.{medium}"])
                gone.append(source)
        if gone:
            self._warn(WarningCode.MEDIA_GONE, f"Nothing can start from {', '.join(dict.fromkeys(gone))} any more.")
        if self._entry is not None:
            self._task = self._fitted(self._entry)
            lost = len(self._references) + len(self._media) < len(self._stored.references) + len(self._stored.media)
            if lost and self._stored.task not in {None, self._task}:
                self._warn(
                    WarningCode.TASK_CHANGED,
                    f"The job did {self._stored.task}; with these inputs it does {self._task}.",
                )

    def judge(self) -> None:
        """Warn about stored values that cannot be read."""
        if self._stored.unread:
            unread = ", ".join(self._stored.unread)
            self._warn(WarningCode.OPTIONS_INVALID, f"What the job stored cannot be read whole; left away: {unread}.")

    def result(self) -> FormInputs:
        """All inputs found."""
        return FormInputs(
            job_type=self._name,
            model=self._model,
            task=self._task,
            prompt=self._stored.prompt,
            inputs=tuple(self._inputs),
            media=self._media,
            references=tuple(self._references.values()),
            skipped=tuple(self._skipped),
            warnings=tuple(self._warnings),
        )

    def _known_params(self) -> Mapping[str, Param]:
        if self._entry is not None:
            return self._catalog.params_of(self._entry)
        params = self._catalog.params
        return {name: params[name] for name in in_order(params) if name in self._stored.params}

    def _default(self, name: str) -> ParamValue | None:
        if self._entry is None:
            return self._catalog.params[name].default
        return self._catalog.default(self._entry, name)

    def _fitted(self, entry: JobType) -> str:
        """The task, after skipping everything that the job type cannot use."""
        while True:
            try:
                return self._catalog.task(entry, [each.type for each in self._references.values()], list(self._media))
            except InvalidInput as refused:
                problem = refused.problems[0]
            kind, _, rest = problem.path.partition(".")
            if kind == "media":
                del self._media[rest]
                self._skip(problem.path, problem.detail)
                continue
            places = list(self._references)
            place = places[int(rest.partition(".")[0])] if rest else places[-1]
            del self._references[place]
            self._skip(f"references.{place}", problem.detail)

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.append(Skipped(name, reason))

    def _warn(self, code: WarningCode, detail: str) -> None:
        self._warnings.append(RecipeCaution(code, detail))

    def _warn_of_model(self, model: str, now: str) -> None:
        if self._model_is_known:
            self._warn(WarningCode.MODEL_CHANGED, f"The job ran on the model {model}{now}.")
        else:
            self._warn(WarningCode.MODEL_UNKNOWN, f"The catalog has no model {model} any more{now}.")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
