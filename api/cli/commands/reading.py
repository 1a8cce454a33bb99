"""Commands that read, download or cancel: jobs, assets, the library and the catalog."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from api.cli.names import asset_named, job_named
from api.cli.options import AsJson, DataDir, JobName, Limit, Token, Url
from api.cli.remote.failures import ClientError, NotThere
from api.cli.remote.files import download as download_files
from api.cli.remote.files import make_folder, outcome, places, without_file
from api.cli.remote.named import assets_of, find_named, without_job
from api.cli.remote.server import Server, find_server, finish
from api.cli.tables import (
    asset_lines,
    batch_lines,
    dead_jobs_lines,
    history_lines,
    job_lines,
    jobs_lines,
    library_lines,
    models_lines,
    params_lines,
    types_lines,
)
from api.cli.terminal import DONE, FAILED, complain, print_json, printable, say, width_of_stdout
from domain.json_type import Json
from domain.statuses import JobStatus, OutputKind

if TYPE_CHECKING:
    from api.cli.remote.client import Client


AsOf = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="POSITION",
        help="The state at this position of the ledger. Reads the database, like `darkroom rebuild`.",
    ),
]
Owner = Annotated[str | None, typer.Option(help="With --as-of: the owner. Default: the administrator.")]

CANCELED = {
    "canceled": "Job {} is canceled.",
    "cancel_requested": "Job {} stops after the step it is at.",
    "already_finished": "Job {} had ended already.",
}
"""Sentences on the result of canceling a job."""


def jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="Only jobs of this job type.")] = None,
    batch: Annotated[str | None, typer.Option(metavar="ID", help="Only jobs of this batch.")] = None,
    limit: Limit = 20,
    dead: Annotated[bool, typer.Option("--dead", help="Failed jobs of all owners. For administrators.")] = False,
    as_of: AsOf = None,
    owner: Owner = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List jobs, newest first."""
    if dead and (status or job_type or batch or as_of is not None):
        raise typer.BadParameter("--dead lists everybody's failed jobs; leave the other filters away")
    _require_fitting(as_of, owner, url, token)
    if batch is not None:
        batch = _id(batch, "a batch")
    if as_of is not None:
        from api.cli.local.as_of import jobs_as_of  # noqa: PLC0415 - brings Postgres

        found = jobs_as_of(data_dir, owner, as_of, status=status, job_type=job_type, batch_id=batch, limit=limit)
        _print_list(found, jobs_lines, f"There were no such jobs at position {as_of}.", as_json=as_json)
        return
    server = find_server(url, token, data_dir)
    if dead:
        finish(_dead_jobs(server, limit=limit, as_json=as_json))
    filters = {"status": status, "job_type": job_type, "batch_id": batch}
    finish(_jobs(server, {name: value for name, value in filters.items() if value}, limit=limit, as_json=as_json))


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE", help="A job, a batch, an asset (its id, or JOB/INDEX), or a file made by Darkroom."
        ),
    ],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Show a job, a batch or an asset with its files, or the job of a file.

    For a file it also says whether its pixels are those in the ledger; the exit status is 1 if they are not.
    """
    if os.path.isfile(what):  # false for names that no file can have; Path.is_file raises
        from api.cli.remote import origins  # noqa: PLC0415

        finish(origins.show_file(Path(what), lambda: find_server(url, token, data_dir), as_json=as_json))
    named = _named(what, "neither the id of a job, a batch or an asset nor a file here")
    finish(_show(find_server(url, token, data_dir), named, as_json=as_json))


def history(
    job: JobName, as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None
) -> None:
    """Show every event of a job and its assets."""
    job_id = job_named(job)
    finish(_history(find_server(url, token, data_dir), job_id, as_json=as_json))


def watch(
    job: JobName,
    out: Annotated[Path | None, typer.Option(help="Folder to download the files to.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Follow a job until it has ended.

    Ctrl-C stops watching; the job keeps running. The exit status is 1 if it did not succeed.
    """
    job_id = job_named(job)
    finish(_follow(find_server(url, token, data_dir), job_id, out, as_json=as_json))


def download(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Jobs, batches, or assets: their ids, or JOB/INDEX.")],
    out: Annotated[Path, typer.Option(help="Folder to download the files to.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace existing files that differ.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Download the files of jobs, batches or assets.

    Prints the path of each. Existing files are kept; each file is checked against the hash in the ledger. The exit
    status is 1 if one of them has no file at all.
    """
    named = [_named(each, "not the id of a job, a batch or an asset") for each in ids]
    finish(_download(find_server(url, token, data_dir), named, out, force=force, as_json=as_json))


def library(
    search: Annotated[str | None, typer.Option("--search", "-q", help="Words in prompts, titles and tags.")] = None,
    kind: Annotated[OutputKind | None, typer.Option(help="Only images, or only videos.")] = None,
    saved: Annotated[bool, typer.Option("--saved", help="Only saved assets.")] = False,
    tag: Annotated[str | None, typer.Option(help="Only assets with this tag.")] = None,
    min_score: Annotated[int | None, typer.Option(min=1, max=5, help="Only assets with this rating or better.")] = None,
    model: Annotated[str | None, typer.Option(help="Only assets of this model.")] = None,
    trashed: Annotated[bool, typer.Option("--trashed", help="The assets in the trash.")] = False,
    limit: Limit = 20,
    as_of: AsOf = None,
    owner: Owner = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List completed assets, newest first."""
    filters = {
        "q": search,
        "kind": kind,
        "saved": "true" if saved else None,
        "tag": tag,
        "min_score": None if min_score is None else str(min_score),
        "model": model,
        "trashed": "true" if trashed else None,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    _require_fitting(as_of, owner, url, token)
    if as_of is not None:
        if given:
            raise typer.BadParameter("--as-of lists everything that was there; leave the filters away")
        from api.cli.local.as_of import library_as_of  # noqa: PLC0415 - brings Postgres

        found = library_as_of(data_dir, owner, as_of, limit=limit)
        _print_list(found, library_lines, f"The library was empty at position {as_of}.", as_json=as_json)
        return
    finish(_library(find_server(url, token, data_dir), given, limit=limit, as_json=as_json))


def types(as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None) -> None:
    """List the job types that can be submitted."""
    finish(_types(find_server(url, token, data_dir), as_json=as_json))


def models(as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None) -> None:
    """List the models of the catalog."""
    finish(_models(find_server(url, token, data_dir), as_json=as_json))


def params(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job type; `darkroom types` lists them.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List the parameters of a job type, for --set.

    With --json their JSON Schema.
    """
    finish(_params(find_server(url, token, data_dir), job_type, as_json=as_json))


def cancel(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB…", help="One or more jobs or batches.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Cancel jobs, or the jobs of a batch; completed outputs are kept.

    --json prints an object for one job, a list for several. The exit status is 1 if one of them could not be canceled.
    """
    job_ids = [job_named(job) for job in jobs]
    finish(_cancel(find_server(url, token, data_dir), job_ids, as_json=as_json))


def lines_of(server: Server, client: Client, job: Json, events: list[Json]) -> list[str]:
    """Everything about a job, with the places of its files."""
    place = places(server, client, events)
    return job_lines(job, [outcome(asset, place) for asset in job["assets"]])


async def _jobs(server: Server, filters: dict[str, str], *, limit: int, as_json: bool) -> int:
    async with server.client() as client:
        found = await client.jobs(limit=limit, **filters)
        others = not found and bool(filters) and bool(await client.jobs(limit=1))
        if not found and "batch_id" in filters:
            await client.find_batch(filters["batch_id"])
        if not found and "job_type" in filters:
            _require_known(filters["job_type"], [entry["name"] for entry in await client.job_types()], "job type")
    if others:
        nothing = f"None of your jobs has {_filters_text(filters)}. List all of them: {server.command('jobs')}"
    else:
        prompt = "a blue heart on a white background"
        nothing = f"There are no jobs. Submit one: {server.command('submit', prompt, '--watch')}"
    _print_list(found, jobs_lines, nothing, as_json=as_json)
    return DONE


def _filters_text(filters: dict[str, str]) -> str:
    words = {"status": "the status", "job_type": "the type", "batch_id": "the batch"}
    return " and ".join(f"{words[name]} {printable(value)}" for name, value in filters.items())


async def _dead_jobs(server: Server, *, limit: int, as_json: bool) -> int:
    async with server.client() as client:
        found = await client.dead_jobs(limit=limit)
    _print_list(found, dead_jobs_lines, "No job has failed.", as_json=as_json)
    return DONE


async def _show(server: Server, named: str, *, as_json: bool) -> int:
    async with server.client() as client:
        kind, found = await find_named(client, named)
        if as_json:
            print_json(found)
        elif kind == "batch":
            say("\n".join(batch_lines(found)))
        else:
            events = await client.history(found["job_id"] if kind == "asset" else found["id"])
            place = places(server, client, events)
            shown = asset_lines(found, place) if kind == "asset" else lines_of(server, client, found, events)
            say("\n".join(shown))
    return DONE


async def _history(server: Server, job_id: str, *, as_json: bool) -> int:
    async with server.client() as client:
        try:
            events = await client.history(job_id)
        except NotThere as missing:
            raise await without_job(server, client, job_id, missing) from None
    print_json(events) if as_json else say("\n".join(history_lines(events, width_of_stdout())))
    return DONE


async def _follow(server: Server, job_id: str, out: Path | None, *, as_json: bool) -> int:
    from api.cli.commands.submitting import follow  # noqa: PLC0415

    if out is not None:
        make_folder(out)
    async with server.client() as client:
        try:
            job = await client.job(job_id)
        except NotThere as missing:
            raise await without_job(server, client, job_id, missing) from None
        return await follow(server, client, job, out=out, as_json=as_json)


async def _download(server: Server, named: Sequence[str], out: Path, *, force: bool, as_json: bool) -> int:
    make_folder(out)
    files: list[Path] = []
    status = DONE
    async with server.client() as client:
        for each in named:
            assets = assets_of(*await find_named(client, each))
            found = await download_files(client, assets, out, force=force)
            for sentence in without_file(assets) or ([] if assets else [f"{each} has no assets."]):
                complain(sentence)
            status = status if found else FAILED
            files += found
            if not as_json:
                for file in found:
                    say(printable(file))
    if as_json:
        print_json([str(file) for file in files])
    return status


async def _library(server: Server, filters: dict[str, str], *, limit: int, as_json: bool) -> int:
    async with server.client() as client:
        found = await client.library(filters, limit=limit)
        others = not found and bool(filters) and bool(await client.library({}, limit=1))
        if not found and "model" in filters:
            _require_known(filters["model"], [entry["name"] for entry in await client.models()], "model")
    if others:
        nothing = f"Nothing in your library fits. List all of it: {server.command('library')}"
    elif "trashed" in filters:
        nothing = "The trash is empty."
    else:
        nothing = f"The library is empty. Your jobs: {server.command('jobs')}"
    _print_list(found, library_lines, nothing, as_json=as_json)
    return DONE


async def _types(server: Server, *, as_json: bool) -> int:
    async with server.client() as client:
        found = await client.job_types()
    _print_list(found, types_lines, "The catalog has no job types.", as_json=as_json)
    return DONE


async def _models(server: Server, *, as_json: bool) -> int:
    async with server.client() as client:
        found = await client.models()
    _print_list(found, models_lines, "The catalog has no models.", as_json=as_json)
    return DONE


async def _params(server: Server, job_type: str, *, as_json: bool) -> int:
    async with server.client() as client:
        found = {entry["name"]: entry for entry in await client.job_types()}
    _require_known(job_type, list(found), "job type")
    parameters = found[job_type]["parameters"]
    print_json(parameters) if as_json else say("\n".join(params_lines(parameters, width_of_stdout())))
    return DONE


async def _cancel(server: Server, job_ids: Sequence[str], *, as_json: bool) -> int:
    answers: list[Json] = []
    status = DONE
    async with server.client() as client:
        for job_id in job_ids:
            try:
                answer, sentence = await _cancel_one(client, job_id)
            except ClientError as error:
                if len(job_ids) == 1:
                    raise
                complain(str(error))
                status = FAILED
                continue
            answers.append(answer)
            if not as_json:
                say(sentence)
    if as_json:
        print_json(answers[0] if len(job_ids) == 1 else answers)
    return status


async def _cancel_one(client: Client, named: str) -> tuple[Json, str]:
    """The answer and a sentence on it; if there is no such job, of the batch with that id."""
    try:
        answer = await client.cancel(named)
    except NotThere as missing:
        try:
            counts = await client.cancel_batch(named)
        except NotThere:
            raise missing from None
        said = (
            f"{counts['canceled']} canceled, {counts['cancel_requested']} stopping after the step they are at, "
            f"{counts['already_finished']} had ended already."
        )
        return counts, f"Jobs of the batch {named}: {said}"
    return answer, CANCELED[answer["result"]].format(named)


def _print_list(found: Sequence[Json], lines: Any, nothing: str, *, as_json: bool) -> None:
    """`nothing`: the message for an empty list, on stderr: a program that reads stdout reads nothing."""
    if as_json:
        print_json(found)
    elif found:
        say("\n".join(lines(found, width_of_stdout())))
    else:
        typer.echo(nothing, err=True)


def _require_fitting(as_of: int | None, owner: str | None, url: str | None, token: str | None) -> None:
    """Raises `typer.BadParameter` for an option without an effect with or without --as-of."""
    if as_of is None and owner is not None:
        raise typer.BadParameter("--owner works only with --as-of; without it, the token says whose they are")
    if as_of is not None and (url is not None or token is not None):
        raise typer.BadParameter("--as-of reads the database and asks no server; leave --url and --token away")


def _require_known(name: str, known: Sequence[str], what: str) -> None:
    """Raises `typer.BadParameter` for a name that is not in the catalog."""
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise typer.BadParameter(f"there is no {what} {name!r}; {advice}")


def _named(text: str, otherwise: str) -> str:
    """The id of a job or an asset, or JOB/INDEX, as the server writes them."""
    text = text.removeprefix("asset:")
    if "/" in text:
        try:
            return asset_named(text).text
        except typer.BadParameter:
            raise typer.BadParameter(f"{text!r} is {otherwise}") from None
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is {otherwise}") from None


def _id(text: str, what: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not the id of {what}") from None
