"""`darkroom submit --like JOB`: the inputs of a job as a new submission, with the changes on the command line."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from api.cli.remote.client import Client
from api.cli.remote.failures import ClientError
from domain.json_type import Json
from domain.recipes.inputs import BESIDE_PARAMS

FILES: Final = frozenset({"references", "media"})
OF_FILES: Final = frozenset({"media_gone", "task_changed"})
"""Warnings that do not matter if other files are given."""

RANDOM_SEED: Final = "random"


class NothingLike(ClientError):
    """An input of the job cannot be reused, and nothing was given in its place."""

    code = "nothing_like"


async def submission_like(client: Client, job_id: str, changes: Json) -> tuple[Json, list[str]]:
    """The body of a job that reuses the inputs of another one, and sentences on what it does not reuse.

    `changes` are fields of a submission that replace those of the job; in `params` each one separately. Parameters
    without an effect after a change are dropped. A `seed` of "random" means no seed. Raises `NothingLike`, and the
    client's errors.
    """
    inputs = await client.inputs(job_id, job_type=changes.get("job_type"))
    changed = dict(changes.get("params") or {})
    kept, dropped = _kept(inputs["inputs"], changed)
    values = {each["name"]: each["value"] for each in kept}
    fields = {name: values.pop(name) for name in BESIDE_PARAMS if name in values}
    fields |= {name: inputs[name] for name in _named(inputs)}
    fields |= {"references": inputs["references"], "media": inputs["media"]}
    fields |= {name: value for name, value in changes.items() if name != "params"}
    if fields.get("prompt") is None:
        raise NothingLike(f"The prompt of job {job_id} cannot be read; give one.")
    if fields.get("seed") == RANDOM_SEED:
        del fields["seed"]
    replaced = {*changes, *changed}
    said = [each["detail"] for each in inputs["warnings"] if not (each["code"] in OF_FILES and replaced & FILES)]
    lost = [(each["name"], each["reason"]) for each in inputs["skipped"]]
    lost += [(name, f"only with {condition}") for name, condition in dropped]
    said += [f"{name} is left away: {why}." for name, why in lost if name.partition(".")[0] not in replaced]
    return fields | {"params": values | changed, "parent_id": job_id}, said


def _named(inputs: Json) -> Iterable[str]:
    """The fields that identify the job type: with a job type, the server knows the rest."""
    named = ["job_type"] if inputs["job_type"] is not None else ["model", "task"]
    return [name for name in (*named, "prompt") if inputs[name] is not None]


def _kept(inputs: Iterable[Json], changed: Mapping[str, Any]) -> tuple[list[Json], list[tuple[str, str]]]:
    """The inputs that still have an effect after the changes; the others by name, with their conditions.

    Parents come first. A missing parent has its default, and the server has checked the condition with it.
    """
    kept: list[Json] = []
    dropped: list[tuple[str, str]] = []
    values = dict(changed)
    for each in inputs:
        name = each["name"]
        if name in changed:
            continue  # given on the command line: the server checks the condition
        gone = {lost for lost, _ in dropped}
        broken = [
            condition
            for condition in each["depends_on"]
            if condition["name"] in gone
            or (condition["name"] in values and not _is_among(values[condition["name"]], condition["values"]))
        ]
        if broken:
            dropped.append((name, " and ".join(_text(condition) for condition in broken)))
        else:
            kept.append(each)
            values[name] = each["value"]
    return kept, dropped


def _is_among(value: object, wanted: Iterable[object]) -> bool:
    """Compared as in JSON: true is not 1."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in wanted)


def _text(condition: Json) -> str:
    shown = (str(value).lower() if isinstance(value, bool) else str(value) for value in condition["values"])
    return f"{condition['name']} = {' or '.join(shown)}"
