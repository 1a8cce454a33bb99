"""Commands that create jobs: `submit`, `batch`, `retry`, `enhance` and `upload`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.names import job_named, prompt_named, source_named
from api.cli.options import JOB_TYPE, AsJson, DataDir, Token, Url
from api.cli.remote.failures import ClientError, NotThere
from api.cli.remote.files import Place, download, file_name, make_folder, places, references_of, with_uploads
from api.cli.remote.sendable import require_sendable
from api.cli.remote.server import Server, find_server, finish
from api.cli.tables import error_text, standing
from api.cli.terminal import DONE, FAILED, complain, print_json, printable, say
from domain.json_type import Json

if TYPE_CHECKING:
    from api.cli.remote.batch_file import BatchFile
    from api.cli.remote.client import Client


RANDOM_SEED = "random"

SETTLED = frozenset({"queued", "processing", "succeeded"})
"""Statuses of success; a watched job with another final status did not do everything that was requested."""

JOBS_LOOKED_AT = 20
"""Number of the owner's newest jobs that are checked: without one of the model, its subjects are explained."""


def submit(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt; - reads it from stdin, @FILE from a file. Default with --like: the job's prompt."
        ),
    ] = None,
    job_type: Annotated[
        str | None, typer.Option("--type", help=f"The job type. Default: {JOB_TYPE}, or that of --like.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="JOB", help="Reuse the inputs of this job, including its seed; other options change them."
        ),
    ] = None,
    quantity: Annotated[int | None, typer.Option(help="Number of outputs: 1, 3 or 6 images.")] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="N|random",
            help="Seed of the first output; the others count up from it. Default: random; with --like, the job's.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter, such as steps=20.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="The negative prompt; also - or @FILE.")] = None,
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="TYPE=FILE[@STRENGTH]",
            help="A reference picture: composition, style or character; a local file, media:ID or asset:ID; 0.1 to 1.",
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="The first picture of a video; also media:ID, asset:ID.")
    ] = None,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="The video to extend; also media:ID, asset:ID.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="-10 to 10; higher runs first.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the job with a progress bar until it has ended.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to download the files to; implies --watch.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Submit a job. Local files are uploaded first.

    With --like JOB, the inputs of that job with the changes on the command line; stderr lists the inputs that cannot be
    reused.
    """
    if prompt is None and like is None:
        raise typer.BadParameter("Missing argument 'PROMPT', or --like JOB")
    if prompt == "-" and negative == "-":
        raise typer.BadParameter("only one of the two prompts can come from stdin")
    media = {name: source_named(source) for name, source in (("image", image), ("video", video)) if source}
    asked = {
        "prompt": None if prompt is None else prompt_named(prompt),
        "job_type": job_type or (None if like else JOB_TYPE),
        "negative_prompt": None if negative is None else prompt_named(negative),
        "quantity": quantity,
        "seed": seed_of(seed, like=like is not None),
        "params": params_of(settings or []) or None,
        "references": references_of(references or []) or None,
        "media": media or None,
        "priority": priority,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    source = None if like is None else job_named(like)
    server = find_server(url, token, data_dir)
    finish(_submit(server, body, watched=watch or out is not None, out=out, as_json=as_json, like=source))


def retry(
    job: Annotated[str, typer.Argument(metavar="JOB|BATCH", help="The id of the job or the batch.")],
    dead: Annotated[bool, typer.Option("--dead", help="Any job of `jobs --dead`, for its owner.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Run the failed and canceled outputs of a job or a batch again."""
    run = _retry_dead if dead else _retry
    job_id = job_named(job)
    finish(run(find_server(url, token, data_dir), job_id, as_json=as_json))


def enhance(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin, @FILE from a file.")],
    job_type: Annotated[str, typer.Option("--type", help="The job type that the prompt is for.")] = JOB_TYPE,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Enhance a prompt, without a job.

    Prints the enhanced prompt, and its enhancer on stderr.
    """
    words = prompt_named(prompt)
    finish(_enhance(find_server(url, token, data_dir), words, job_type, as_json=as_json))


def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image, a video or a sound.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Upload a file that jobs can start from.

    PNG, JPEG, WebP, AVIF, MP4, MOV, WebM, WAV, MP3, FLAC, Ogg or M4A. The same content again is the same upload.
    """
    finish(_upload(find_server(url, token, data_dir), file, as_json=as_json))


def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .toml file; docs/cli.md describes both.")],
    name: Annotated[
        str | None, typer.Option(help="The batch's name. Default: the name in the file, or the file's name.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Assets are named COLLECTION - TEMPLATE.")] = None,
    job_type: Annotated[str, typer.Option("--type", help="The job type of items without one.")] = JOB_TYPE,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Submit many jobs together, one for each row or item of a file.

    Each is accepted or rejected independently. The exit status is 1 if one was rejected; stderr says which, and why.
    With --json, `not_sent` has the places and problems of those that could not be sent, such as without their file.
    """
    from api.cli.remote.batch_file import read_batch  # noqa: PLC0415 - only this command reads them

    read = read_batch(file, job_type)
    named = {"name": name, "collection": collection}
    body = read.body | {key: value for key, value in named.items() if value is not None}
    finish(_batch(find_server(url, token, data_dir), replace(read, body=body), file.parent, as_json=as_json))


def params_of(pairs: list[str]) -> Json:
    """`steps=20` as a parameter; a value is a number, true, false or else text. Raises `typer.BadParameter`."""
    params: Json = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in params:
            reason = "is there twice" if name in params else "is not KEY=VALUE, as in steps=20"
            raise typer.BadParameter(f"--set {pair!r} {reason}")
        params[name] = value_of(value)
    return params


def value_of(text: str) -> Any:
    """A number, true or false, or else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) else text


def seed_of(text: str | None, *, like: bool) -> int | str | None:
    """A seed or None; the default is random, or the seed of the reused job."""
    if text is None or (text.isascii() and text.isdecimal()):
        return None if text is None else int(text)
    if text != RANDOM_SEED:
        raise typer.BadParameter(f"--seed {text!r} is neither a whole number nor {RANDOM_SEED}")
    return RANDOM_SEED if like else None


async def _submit(
    server: Server, body: Json, *, watched: bool, out: Path | None, as_json: bool, like: str | None
) -> int:
    """Submit, and follow the job if requested. `like`: the job with the inputs that `body` changes."""
    require_sendable(body)
    if out is not None:
        make_folder(out)
    async with server.client() as client:
        if like is not None:
            from api.cli.remote.like import submission_like  # noqa: PLC0415 - brings pydantic

            body, said = await submission_like(client, like, body)
            for sentence in said:
                complain(printable(sentence))
        job = await client.submit(await with_uploads(client, body))
        if not as_json:
            await _say_what_to_know(client, job)
        if not watched:
            print_json(job) if as_json else say(_queued_line(server, job))
            return DONE
        return await follow(server, client, job, out=out, as_json=as_json)


async def follow(server: Server, client: Client, job: Json, *, out: Path | None, as_json: bool) -> int:
    """Watch a job to its end, download its files if `out` is a folder, print the outcome; returns the exit status."""
    import asyncio  # noqa: PLC0415 - see `find_server`

    try:
        job, place = await _watch(server, client, job, kept=out is None, quiet=as_json)
    except (asyncio.CancelledError, ClientError):
        complain(f"stopped watching. The job is still running; check it with: {server.command('watch', job['id'])}")
        raise
    if out is not None:
        await download(client, job["assets"], out, force=True)
        place = lambda asset: str(out / file_name(asset))  # noqa: E731 - asked of completed ones alone
    if as_json:
        print_json(job)
    else:
        _print_end(job, place)
    return DONE if job["status"] in SETTLED else FAILED


async def _say_what_to_know(client: Client, job: Json) -> None:
    """On stderr: warnings, and once the model's subjects if it cannot draw everything."""
    for warning in job["warnings"]:
        complain(printable(warning["detail"]))
    with suppress(ClientError):  # the job is accepted; a hint is not worth a failure or a pause
        if (draws := await _draws(client, job)) is not None:
            complain(f"the model {job['model']} draws {draws}.")


async def _draws(client: Client, job: Json) -> str | None:
    """The model's subjects; None if it draws everything, or if the owner used it lately."""
    newest = await client.newest_jobs(JOBS_LOOKED_AT)
    if any(each["model"] == job["model"] and each["id"] != job["id"] for each in newest):
        return None
    return next((entry["draws"] for entry in await client.models() if entry["name"] == job["model"]), None)


async def _retry(server: Server, job_id: str, *, as_json: bool) -> int:
    """Of a batch if there is no such job."""
    async with server.client() as client:
        try:
            job = await client.retry(job_id)
        except NotThere as missing:
            try:
                again = await client.retry_batch(job_id)
            except NotThere:
                raise missing from None
            return _print_again(server, again, as_json=as_json)
    print_json(job) if as_json else say(_queued_line(server, job))
    return DONE


def _print_again(server: Server, again: Json, *, as_json: bool) -> int:
    if as_json:
        print_json(again)
    else:
        queued = sum(item["saved"] for item in again["items"])
        listed = server.command("jobs", "--batch", again["id"])
        say(f"{again['id']}  {queued} {'job' if queued == 1 else 'jobs'} queued. List them: {listed}")
    return DONE


async def _retry_dead(server: Server, job_id: str, *, as_json: bool) -> int:
    async with server.client() as client:
        job = await client.retry_dead(job_id)
    print_json(job) if as_json else say(f"{job['id']}  queued for {printable(job['owner'])}.")
    return DONE


async def _enhance(server: Server, prompt: str, job_type: str, *, as_json: bool) -> int:
    """Prints only the prompt to stdout, so that `submit` can read it from there."""
    async with server.client() as client:
        made = await client.enhance(prompt, job_type)
    if as_json:
        print_json(made)
    else:
        say(made["enhanced"] if not sys.stdout.isatty() else printable(made["enhanced"]))
        typer.echo(f"by {printable(made['enhancer'])}", err=True)
    return DONE


async def _upload(server: Server, file: Path, *, as_json: bool) -> int:
    async with server.client() as client:
        media = await client.upload(file)
        taking = None if as_json else _options_taking(media, await client.job_types())
    if as_json:
        print_json(media)
        return DONE
    size = f"{media['width']} x {media['height']}, " if media.get("width") else ""
    say(f"{media['id']}  {media['media_type']}, {size}{media['bytes']:,} bytes")
    if taking is not None:
        say(f"Use it: {server.command('submit', 'a blue heart on a white background', *taking)}")
    return DONE


def _options_taking(media: Json, job_types: Sequence[Json]) -> list[str] | None:
    """Options of `submit` for a job that starts from an upload; None if no job type of the catalog does."""
    for entry in job_types:
        if (option := _option_of(entry, media["kind"])) is not None:
            typed = [] if entry["name"] == JOB_TYPE else ["--type", entry["name"]]
            return [*typed, option[0], f"{option[1]}media:{media['id']}"]
    return None


def _option_of(job_type: Json, kind: str) -> tuple[str, str] | None:
    """The option of a job type for such a file, and the beginning of its value."""
    tasks = job_type["tasks"]
    match kind:
        case "image" if "i2i" in tasks and job_type["references"]:
            return "--reference", f"{job_type['references'][0]}="
        case "image" if "i2v" in tasks:
            return "--image", ""
        case "video" if "extend" in tasks:
            return "--video", ""
        case _:
            return None


async def _batch(server: Server, read: BatchFile, folder: Path, *, as_json: bool) -> int:
    from api.cli.remote.batch_sending import made_ready  # noqa: PLC0415 - see `batch`

    body = read.body
    require_sendable({name: value for name, value in body.items() if name != "items"})
    async with server.client() as client:
        ready = await made_ready(client, read, folder)
        sent = list(ready.items)
        made: Json = {"items": []}
        if sent:
            base = await with_uploads(client, {"media": {"base": body["base"]}}, folder) if body.get("base") else None
            based = {} if base is None else {"base": base["media"]["base"]}
            made = await client.batch(body | {"items": list(ready.items.values())} | based)
    rejected = {sent[item["index"]]: _item_problem(item["error"]) for item in made["items"] if not item["saved"]}
    problems = rejected | ready.problems
    if as_json:
        not_sent = [{"place": read.places[index], "problem": text} for index, text in ready.problems.items()]
        print_json(made | {"not_sent": not_sent})
        return FAILED if problems else DONE
    if sent:
        total = len(read.places)
        counted = f"{total - len(problems)} of {total} {'job' if total == 1 else 'jobs'} queued"
        say(f"{made['id']}  {counted}. List them: {server.command('jobs', '--batch', made['id'])}")
    for index, text in sorted(problems.items()):
        complain(f"{read.places[index]} was rejected: {printable(text)}")
    return FAILED if problems else DONE


def _item_problem(problem: Json) -> str:
    return "; ".join(f"{one['path']}: {one['detail']}" for one in problem.get("errors") or []) or problem["detail"]


async def _watch(server: Server, client: Client, job: Json, *, kept: bool, quiet: bool) -> tuple[Json, Place]:
    """The ended job, and the places of its files.

    `kept`: print each immediately; otherwise they are downloaded later.
    """
    from rich.console import Console  # noqa: PLC0415 - takes a while; only here

    from api.cli.remote.watch import screen_for, watch  # noqa: PLC0415

    events = await client.history(job["id"])
    place = places(server, client, events)
    after = max((event["position"] for event in events), default=0)
    console = Console(stderr=quiet, highlight=False, markup=False)  # with --json, stdout is only for the JSON
    with screen_for(console, lambda line: typer.echo(line, err=quiet)) as screen:
        screen.line(f"job {job['id']}")
        return await watch(client, job, after, screen, place if kept else lambda _: "completed"), place


def _queued_line(server: Server, job: Json) -> str:
    return f"{job['id']}  {standing(job)}. Follow it: {server.command('watch', job['id'])}"


def _print_end(job: Json, place: Place) -> None:
    reason = error_text(job.get("error"))
    say(f"{job['status']}: {reason}" if reason else job["status"])
    for asset in job["assets"]:
        if asset["status"] == "completed":
            say(printable(place(asset)))
