"""What the client commands do: ask the server, print for a person or as JSON. Each returns the exit status."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import typer
from rich.console import Console

from api.cli.client import Client, ClientError, NoServer
from api.cli.like import RANDOM_SEED, submission_like
from api.cli.tables import dead_jobs_table, error_text, history_table, job_lines, jobs_table, printable, standing
from api.cli.watch import outcome, screen_for, watch
from services.settings import Settings

Json = dict[str, Any]

WIDTH_WITHOUT_TERMINAL = 200
"""Columns of a table that goes to a file or a pipe: wide enough that no id is broken."""

STRENGTH = 0.7
"""Of a reference, when it is not said."""

SETTLED = frozenset({"queued", "processing", "succeeded"})
"""A watched job that ends otherwise did not do all that was asked."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask, and where the files are when it runs on this machine."""

    url: str
    token: str
    blobs: Path | None

    def client(self) -> Client:
        """A new connection."""
        return Client(self.url, self.token)


def find_server(url: str | None, token: str | None, data_dir: Path | None) -> Server:
    """By the options, else the settings, else the data folder. Raises `NoServer` and `SettingsError`."""
    settings = Settings.from_environment()
    folder = data_dir or settings.data_dir
    own_url = _read(folder / "url")
    chosen = url or settings.url or own_url
    if chosen is None:
        raise NoServer(
            f"no Darkroom runs on the data folder {folder}: start one with `darkroom up`, "
            "or name a server with --url or DARKROOM_URL."
        )
    try:
        parts = httpx.URL(chosen)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise typer.BadParameter(f"{chosen!r} is not the URL of a server; it looks like http://127.0.0.1:8700")
    token = token or (settings.token.get_secret_value() if settings.token else None)
    if token is None and own_url is not None and chosen.rstrip("/") == own_url.rstrip("/"):
        token = _read(folder / "admin.token")  # of that server alone: no other one may see it
    if token is None:
        raise NoServer(f"the token for {chosen} is missing: give it with --token or DARKROOM_TOKEN.")
    if not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("the token has characters that no token of Darkroom has")
    blobs = (folder.absolute() / "blobs").as_uri() if data_dir and not settings.blobs_url else settings.blobs()
    local = Path(url2pathname(urlsplit(blobs).path)) if blobs.startswith("file://") else None
    return Server(chosen, token, local)


def params_of(pairs: list[str]) -> Json:
    """`steps=20` as a parameter; a value is a number, true, false or else text."""
    params: Json = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in params:
            reason = "is there twice" if name in params else "is not KEY=VALUE, as in steps=20"
            raise typer.BadParameter(f"--set {pair!r} {reason}")
        params[name] = _value(value)
    return params


def seed_of(text: str | None, *, like: bool) -> int | str | None:
    """A seed, or none: unsaid it is random, or that of the job whose inputs are taken over."""
    if text is None or (text.isascii() and text.isdecimal()):
        return None if text is None else int(text)
    if text != RANDOM_SEED:
        raise typer.BadParameter(f"--seed {text!r} is neither a whole number nor {RANDOM_SEED}")
    return RANDOM_SEED if like else None


async def enhance(server: Server, prompt: str, job_type: str, *, as_json: bool) -> int:
    """Make a prompt richer. The prompt alone goes to stdout, so that `submit` can take it from there."""
    _require_utf8(prompt)
    async with server.client() as client:
        made = await client.enhance(prompt, job_type)
    if as_json:
        _print_json(made)
    else:
        typer.echo(made["enhanced"] if not sys.stdout.isatty() else printable(made["enhanced"]))
        typer.echo(f"by {printable(made['enhancer'])}", err=True)
    return 0


def references_of(given: list[str]) -> list[Json]:
    """`style=photo.png@0.7` as a reference; the strength is 0.7 when it is not said."""
    references = []
    for each in given:
        kind, equals, rest = each.partition("=")
        source, at, strength = rest.rpartition("@")
        if not at:
            source, strength = rest, str(STRENGTH)
        if not equals or not kind or not source or not isinstance(_value(strength), int | float):
            raise typer.BadParameter(f"--reference {each!r} is not TYPE=FILE[@STRENGTH], as in style=photo.png@0.7")
        references.append({"type": kind, "source": source, "strength": float(strength)})
    return references


async def _uploaded(client: Client, source: str) -> str:
    """The source as the server knows it: a file of this machine is uploaded."""
    if source.startswith(("media:", "asset:")):
        return source
    media = await client.upload(Path(source))
    return f"media:{media['id']}"


async def _with_uploads(client: Client, body: Json) -> Json:
    references = [
        reference | {"source": await _uploaded(client, reference["source"])} for reference in body.get("references", [])
    ]
    media = {name: await _uploaded(client, source) for name, source in body.get("media", {}).items()}
    return body | ({"references": references} if references else {}) | ({"media": media} if media else {})


async def _say_what_to_know(client: Client, job: Json) -> None:
    """On stderr: warnings, and what the model can draw when that is not everything."""
    for warning in job["warnings"]:
        typer.echo(f"darkroom: {warning['detail']}", err=True)
    draws = await client.draws(job["model"])
    if draws is not None:
        typer.echo(f"darkroom: the model {job['model']} draws {draws}.", err=True)


async def submit(
    server: Server, body: Json, *, watched: bool, out: Path | None, as_json: bool, like: str | None = None
) -> int:
    """Submit, and follow the job to its end where that is wanted. `like`: a job whose inputs `body` changes."""
    _require_utf8(json.dumps(body, ensure_ascii=False))
    if out is not None:
        _make_folder(out)
    async with server.client() as client:
        if like is not None:
            body, said = await submission_like(client, like, body)
            for sentence in said:
                typer.echo(f"darkroom: {printable(sentence)}", err=True)
        job = await client.submit(await _with_uploads(client, body))
        if not as_json:
            await _say_what_to_know(client, job)
        if not watched:
            _print_json(job) if as_json else typer.echo(
                f"{job['id']}  {standing(job)}. Look: darkroom show {job['id']}"
            )
            return 0
        try:
            job, place = await _watch(server, client, job, kept=out is None, quiet=as_json)
        except (asyncio.CancelledError, ClientError):
            typer.echo(f"darkroom: not watching any more; the job goes on. Look: darkroom show {job['id']}", err=True)
            raise
        if out is not None:
            place = await _download(client, job, out, place)
    if as_json:
        _print_json(job)
    else:
        _print_end(job, place)
    return 0 if job["status"] in SETTLED else 1


async def jobs(server: Server, *, status: str | None, job_type: str | None, limit: int, as_json: bool) -> int:
    """The list of jobs."""
    async with server.client() as client:
        found = await client.jobs(status=status, job_type=job_type, limit=limit)
    if as_json:
        _print_json(found)
    elif found:
        _console().print(jobs_table(found))
    else:
        typer.echo('There are no jobs. Submit one: darkroom submit "a lighthouse at dusk" --watch')
    return 0


async def dead_jobs(server: Server, *, limit: int, as_json: bool) -> int:
    """Everybody's jobs that failed."""
    async with server.client() as client:
        found = await client.dead_jobs(limit=limit)
    if as_json:
        _print_json(found)
    elif found:
        _console().print(dead_jobs_table(found))
    else:
        typer.echo("No job has failed.")
    return 0


async def show(server: Server, job_id: str, *, as_json: bool) -> int:
    """One job."""
    async with server.client() as client:
        job = await client.job(job_id)
        if as_json:
            _print_json(job)
            return 0
        events = await client.history(job_id)
    typer.echo("\n".join(lines_of(server, client, job, events)))
    return 0


def lines_of(server: Server, client: Client, job: Json, events: list[Json]) -> list[str]:
    """Everything about a job, with where its files are."""
    place = _places(server, client, events)
    return job_lines(job, [outcome(asset, place).partition("  ")[2] for asset in job["assets"]])


async def history(server: Server, job_id: str, *, as_json: bool) -> int:
    """Every event."""
    async with server.client() as client:
        events = await client.history(job_id)
    _print_json(events) if as_json else _console().print(history_table(events))
    return 0


async def cancel(server: Server, job_id: str, *, as_json: bool) -> int:
    """Stop a job."""
    async with server.client() as client:
        answer = await client.cancel(job_id)
    words = {
        "canceled": f"Job {job_id} is canceled.",
        "cancel_requested": f"Job {job_id} stops after the step it is at.",
        "already_finished": f"Job {job_id} had ended already.",
    }
    _print_json(answer) if as_json else typer.echo(words.get(answer["result"], answer["result"]))
    return 0


async def retry(server: Server, job_id: str, *, as_json: bool) -> int:
    """Run what failed again."""
    async with server.client() as client:
        job = await client.retry(job_id)
    _print_json(job) if as_json else typer.echo(f"{job['id']}  {standing(job)}. Look: darkroom show {job['id']}")
    return 0


async def retry_dead(server: Server, job_id: str, *, as_json: bool) -> int:
    """Run anybody's job that failed again, for its owner."""
    async with server.client() as client:
        job = await client.retry_dead(job_id)
    _print_json(job) if as_json else typer.echo(f"{job['id']}  queued for {printable(job['owner'])}.")
    return 0


async def upload(server: Server, file: Path, *, as_json: bool) -> int:
    """Bring a file for jobs to start from."""
    async with server.client() as client:
        media = await client.upload(file)
    if as_json:
        _print_json(media)
        return 0
    size = f"{media['width']} x {media['height']}, " if media.get("width") else ""
    typer.echo(f"{media['id']}  {media['media_type']}, {size}{media['bytes']:,} bytes")
    source = f"media:{media['id']}"
    if media["kind"] == "image":
        typer.echo(f'Use it: darkroom submit "a lighthouse at dusk" --reference composition={source}')
    elif media["kind"] == "video":
        typer.echo(f'Use it: darkroom submit "a lighthouse at dusk" --type video_fast --video {source}')
    else:
        typer.echo(f'Use it in the body of a job: "media": {{"{media["kind"]}": "{source}"}}')
    return 0


async def _watch(
    server: Server, client: Client, job: Json, *, kept: bool, quiet: bool
) -> tuple[Json, Callable[[Json], str]]:
    """The ended job, and where its files are. `kept`: say that of each at once; otherwise they are downloaded later."""
    events = await client.history(job["id"])
    place = _places(server, client, events)
    after = max((event["position"] for event in events), default=0)
    console = Console(stderr=quiet, highlight=False, markup=False)  # with --json, stdout is for the JSON alone
    with screen_for(console, lambda line: typer.echo(line, err=quiet)) as screen:
        screen.line(f"job {job['id']}")
        return await watch(client, job, after, screen, place if kept else lambda _: "completed"), place


def _places(server: Server, client: Client, events: list[Json]) -> Callable[[Json], str]:
    """Says where an asset's file is: its path on this machine, else its URL."""
    paths = {event["data"]["index"]: event["data"]["path"] for event in events if event["type"] == "asset.reserved"}

    def place(asset: Json) -> str:
        if server.blobs is not None and asset["index"] in paths:
            file = server.blobs / paths[asset["index"]]
            if file.is_file():
                return str(file)
        return client.absolute(asset["url"])

    return place


async def _download(client: Client, job: Json, out: Path, place: Callable[[Json], str]) -> Callable[[Json], str]:
    files = {}
    for asset in job["assets"]:
        if asset["status"] == "completed":
            ending = asset["media_type"].rpartition("/")[2]
            file = out / f"{job['id']}_{asset['index']}.{ending if ending.isalnum() else 'bin'}"
            await client.download(asset, file)
            files[asset["index"]] = str(file)
    return lambda asset: files.get(asset["index"]) or place(asset)


def _print_end(job: Json, place: Callable[[Json], str]) -> None:
    reason = error_text(job.get("error"))
    typer.echo(f"{job['status']}: {reason}" if reason else job["status"])
    for asset in job["assets"]:
        if asset["status"] == "completed":
            typer.echo(printable(place(asset)))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _console() -> Console:
    columns = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() or columns.isdecimal() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False, markup=False)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _require_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("the prompt is not UTF-8") from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoServer(f"cannot make the folder {folder}: {error.strerror}.") from error


def _read(file: Path) -> str | None:
    """A line that `darkroom up` wrote; None when there is none."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NoServer(f"cannot read {file}: {reason}.") from error
