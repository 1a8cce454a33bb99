"""Turns items of a batch into jobs, each by itself: an invalid item is reported, and the others continue."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from api.batches.bodies import SHARED, BatchEnvelope
from api.http.bodies.json_body import nul_problems, problems_of, require_few
from api.http.bodies.texts import Template
from api.http.idempotency import RequestContext
from api.jobs.draft import Draft, draft_of
from api.jobs.sources import Files
from api.jobs.submission import given_of, job_type_of, submission_of
from domain.aggregates.batch import item_job_id, title_of
from domain.bounds import cut
from domain.commands import NewItem, SubmitJob
from domain.errors import FieldProblem, InvalidInput
from domain.events import ItemProblem
from domain.json_type import Json
from domain.recipes.catalog import Catalog
from domain.recipes.recipe import Kind, Reference, Task

BASE_STRENGTH: Final = 0.5
"""Strength of a base picture as the composition of an image: the layout stays, and six of ten steps are left to the
prompt. An item that needs another strength brings the picture as its own reference."""

PROBLEMS_KEPT_MAX: Final = 20
DETAIL_CHARACTERS_MAX: Final = 1_000
"""Maximum characters of an item's problems: the ledger keeps them forever; further mistakes are reported next time."""

TEMPLATE: Final[TypeAdapter[str | None]] = TypeAdapter(Template | None)


@dataclass(frozen=True, slots=True)
class Intake:
    """The shared context of all items of a new batch."""

    batch_id: UUID
    envelope: BatchEnvelope
    asked: RequestContext
    catalog: Catalog
    files: Files

    def take(self) -> tuple[list[NewItem], list[SubmitJob]]:
        """Every item, and the jobs of the valid ones. Reads the ledger, once for each source: blocks.

        Raises `InvalidInput` for an unusable base, since that is no item's fault, and `Unavailable`.
        """
        if self.envelope.base is not None:
            self.files.resolve([("base", self.envelope.base, ("image",))])
        items: list[NewItem] = []
        jobs: list[SubmitJob] = []
        for index, content in enumerate(self.envelope.items):
            template = _template_of(content)
            try:
                job = self._job(index, content, template)
            except InvalidInput as invalid:
                items.append(NewItem(index, template, None, problem_with(invalid)))
            else:
                items.append(NewItem(index, template, job.job_id))
                jobs.append(job)
        return items, jobs

    def _job(self, index: int, content: object, template: str | None) -> SubmitJob:
        if not isinstance(content, dict):
            raise InvalidInput([FieldProblem("item", "must be a JSON object")])
        require_few(content, "item")
        problems = nul_problems(content)
        if problems:
            raise InvalidInput(problems)
        problems = [
            FieldProblem(name, f"is not taken here: all variants share the {name} of the comparison")
            for name in SHARED
            if name in self.envelope.shared and name in content
        ]
        problems += _problems_of_template(content)
        own = {name: value for name, value in content.items() if name != "template"}
        draft, unfit = self._on_base(draft_of({**own, **self.envelope.shared}))
        given = given_of(draft, self.files)
        given = replace(given, problems=[*problems, *unfit, *given.problems])
        command = submission_of(draft, self.asked.of_a_part(), self.catalog, given)
        title = title_of(self.envelope.collection, template)
        return replace(command, job_id=item_job_id(self.batch_id, index), batch_id=self.batch_id, title=title)

    def _on_base(self, draft: Draft) -> tuple[Draft, list[FieldProblem]]:
        """The item with the base picture as its source; the item's own sources take precedence."""
        base = self.envelope.base
        job_type = job_type_of(draft, self.catalog)
        if base is None or job_type is None or draft.starts_from_files():
            return draft, []
        if job_type.kind is Kind.VIDEO:
            if Task.IMAGE_TO_VIDEO in self.catalog.tasks_of(job_type):
                return draft.starting_from(media={"image": base}), []
        elif "composition" in self.catalog.models[job_type.model].references:
            reference = Reference(type="composition", source=base, strength=BASE_STRENGTH)
            return draft.starting_from([reference]), []
        detail = (
            f"the model {job_type.model} of this item starts from no picture; leave the base away, or take another one"
        )
        return draft, [FieldProblem("base", detail)]


def problem_with(invalid: InvalidInput) -> ItemProblem:
    """The part of an item's rejection that the ledger keeps."""
    told = tuple(
        (cut(one.path, DETAIL_CHARACTERS_MAX), cut(one.detail, DETAIL_CHARACTERS_MAX))
        for one in invalid.problems[:PROBLEMS_KEPT_MAX]
    )
    return ItemProblem(code=invalid.code, detail=cut(str(invalid), DETAIL_CHARACTERS_MAX), problems=told)


def _template_of(content: Any) -> str | None:
    """The template's name if it is valid, even if the item is rejected for something else."""
    if not isinstance(content, dict) or _problems_of_template(content):
        return None
    return content.get("template")


def _problems_of_template(content: Json) -> Sequence[FieldProblem]:
    try:
        template = TEMPLATE.validate_python(content.get("template"), strict=True)
    except ValidationError as error:
        return [FieldProblem("template", one.detail) for one in problems_of(error)]
    return [FieldProblem("template", "must not hold a NUL character")] if template and "\0" in template else []
