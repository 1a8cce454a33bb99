"""The HTTP client of the command line: the API's calls, with errors as one sentence."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote
from uuid import uuid4

import httpx
from httpx_sse import SSEError

from api.cli.remote.failures import (
    ClientError,
    DamagedFile,
    NoFile,
    NotSignedIn,
    NotThere,
    NotWritten,
    Rejected,
    ServerBusy,
    Unreachable,
)
from api.cli.remote.sendable import require_sendable
from api.cli.remote.server_events import ServerEvent, events_in
from api.cli.remote.upload_source import opened
from domain.json_type import Json

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
"""Seconds; a read that waits for its view takes at most 5 s, so 30 s mean that the server does not answer."""

UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
"""Seconds; a long video is decoded before the answer."""

SILENCE_S_MAX = 40.0
"""Seconds; the event stream sends a comment every 15 s: after two missing ones the connection is dead."""

MIN_POSITION = "Darkroom-Min-Position"

TRIES_MAX = 4
RETRY_AFTER_S_MAX = 5.0
"""Maximum seconds between repeats after a 503 or a broken connection; every request is safe to repeat."""

LASTING = frozenset({"ledger_stopped", "rebuild_unavailable"})
"""Codes of a 503 that asking again does not change; the sentence says what does."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Client:
    """One server and one token. Reads wait for the writes of this client (`Darkroom-Min-Position`)."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._position = 0
        # A proxy from the environment is for other machines, not for a server on this one.
        loopback = httpx.URL(url).host in LOOPBACK
        self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=not loopback)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def submit(self, body: Json) -> Json:
        """Submit a job.

        Without an answer, repeats the request with the same Idempotency-Key: there is at most one job.
        """
        return await self._json("POST", "/v1/jobs", body=body, headers={"Idempotency-Key": str(uuid4())})

    async def enhance(self, prompt: str, job_type: str) -> Json:
        """Enhance a prompt, without a job."""
        return await self._json("POST", "/v1/enhance", body={"prompt": prompt, "job_type": job_type})

    async def models(self) -> list[Json]:
        """The models of the catalog."""
        found: list[Json] = (await self._json("GET", "/v1/models"))["results"]
        return found

    async def job_types(self) -> list[Json]:
        """The job types of the catalog."""
        found: list[Json] = (await self._json("GET", "/v1/job-types"))["results"]
        return found

    async def jobs(
        self, *, limit: int, status: str | None = None, job_type: str | None = None, batch_id: str | None = None
    ) -> list[Json]:
        """The owner's newest jobs, `limit` at most."""
        asked = {"status": status, "job_type": job_type, "batch_id": batch_id, "limit": str(min(limit, 100))}
        return await self._list("/v1/jobs", {name: value for name, value in asked.items() if value}, limit)

    async def newest_jobs(self, limit: int) -> list[Json]:
        """The owner's newest jobs as the view has them now, possibly without this client's last writes."""
        page = await self._json("GET", "/v1/jobs", query={"limit": str(limit)}, headers={MIN_POSITION: "0"})
        found: list[Json] = page["results"]
        return found

    async def library(self, filters: dict[str, str], *, limit: int) -> list[Json]:
        """The owner's completed assets, the newest first, `limit` at most."""
        return await self._list("/v1/library", filters | {"limit": str(min(limit, 100))}, limit)

    async def batch(self, body: Json) -> Json:
        """Submit many jobs together; repeats like `submit`."""
        return await self._json("POST", "/v1/batches", body=body, headers={"Idempotency-Key": str(uuid4())})

    async def find_batch(self, batch_id: str) -> Json:
        """One batch with its items and their assets."""
        return await self._json("GET", f"/v1/batches/{batch_id}")

    async def cancel_batch(self, batch_id: str) -> Json:
        """Cancel the jobs of a batch that have not ended; the result has the number of each outcome."""
        return await self._json("POST", f"/v1/batches/{batch_id}/cancel")

    async def retry_batch(self, batch_id: str) -> Json:
        """Run the lost outputs of a batch again, as new jobs; repeats like `submit`."""
        return await self._json("POST", f"/v1/batches/{batch_id}/retry", headers={"Idempotency-Key": str(uuid4())})

    async def asset(self, asset_id: str) -> Json:
        """One asset."""
        return await self._json("GET", f"/v1/assets/{asset_id}")

    async def rate(self, asset_id: str, score: int) -> Json:
        """Rate an asset, 1 to 5; rating again replaces the score."""
        return await self._json("PUT", f"/v1/assets/{asset_id}/rating", body={"score": score})

    async def set_saved(self, asset_id: str, *, saved: bool) -> Json:
        """Save an asset, or undo that."""
        return await self._json("PUT" if saved else "DELETE", f"/v1/assets/{asset_id}/saved")

    async def change_asset(self, asset_id: str, change: Json) -> Json:
        """Set the title of an asset, add or remove tags."""
        return await self._json("PATCH", f"/v1/assets/{asset_id}", body=change)

    async def trash(self, asset_id: str) -> None:
        """Move an asset to the trash."""
        await self._json("DELETE", f"/v1/assets/{asset_id}")

    async def restore(self, asset_id: str) -> Json:
        """Restore an asset from the trash."""
        return await self._json("POST", f"/v1/assets/{asset_id}/restore")

    async def purge(self, asset_id: str) -> None:
        """Delete an asset in the trash permanently."""
        await self._json("POST", f"/v1/assets/{asset_id}/purge")

    async def empty_trash(self) -> Json:
        """Delete a part of the trash permanently."""
        return await self._json("DELETE", "/v1/trash")

    async def workers(self) -> list[Json]:
        """Every worker, for an administrator."""
        found: list[Json] = (await self._json("GET", "/v1/admin/workers"))["results"]
        return found

    async def pools(self) -> list[Json]:
        """Every pool, for an administrator."""
        found: list[Json] = (await self._json("GET", "/v1/admin/pools"))["results"]
        return found

    async def hold(self, kind: str, name: str, word: str, reason: str | None) -> Json:
        """Pause, drain or resume one of `pools` or `workers`."""
        body = None if reason is None else {"reason": reason}
        return await self._json("POST", f"/v1/admin/{kind}/{quote(name, safe='')}/{word}", body=body)

    async def reprioritize(self, job_id: str, priority: int) -> Json:
        """Change the priority of a job of any owner."""
        return await self._json("PATCH", f"/v1/admin/jobs/{job_id}", body={"priority": priority})

    async def job(self, job_id: str, *, position: int = 0) -> Json:
        """One job, at `position` or later."""
        self._position = max(self._position, position)
        return await self._json("GET", f"/v1/jobs/{job_id}")

    async def inputs(self, job_id: str, *, job_type: str | None = None) -> Json:
        """The inputs of a job, to run it again, optionally as another job type."""
        query = None if job_type is None else {"job_type": job_type}
        return await self._json("GET", f"/v1/jobs/{job_id}/inputs", query=query)

    async def history(self, job_id: str) -> list[Json]:
        """Every event of the job and of its assets in ledger order."""
        return await self._list(f"/v1/jobs/{job_id}/history", {}, limit=100_000)

    async def sign_in_link(self) -> Json:
        """A link that signs a browser in, once."""
        return await self._json("POST", "/v1/sign-in-links")

    async def cancel(self, job_id: str) -> Json:
        """Cancel a job; the result says whether it is canceled, will be, or had ended."""
        return await self._json("POST", f"/v1/jobs/{job_id}/cancel")

    async def retry(self, job_id: str) -> Json:
        """Run the failed outputs again, as a new job; repeats like `submit`."""
        return await self._json("POST", f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": str(uuid4())})

    async def dead_jobs(self, *, limit: int) -> list[Json]:
        """The newest failed jobs of all owners, `limit` at most. For administrators."""
        return await self._list("/v1/admin/dead-jobs", {"limit": str(min(limit, 100))}, limit)

    async def retry_dead(self, job_id: str) -> Json:
        """Run one of them again for its owner; a repeat returns the same job."""
        return await self._json("POST", f"/v1/admin/dead-jobs/{job_id}/retry")

    async def upload(self, file: Path) -> Json:
        """Upload a file. Repeats are safe: the same content is the same media. Raises `NoFile`."""
        try:
            with await opened(file) as content:
                # The file's name and type are ignored there.
                return await self._json("POST", "/v1/uploads", file=content)
        except OSError as error:
            raise NoFile(f"cannot read {file}: {error.strerror or error}.") from error

    async def events(self, after: int | str | None) -> AsyncIterator[ServerEvent]:
        """All events after the position or id `after` (None: from now on), until the connection ends."""
        headers = dict(self._headers) | ({} if after is None else {"Last-Event-ID": str(after)})
        timeout = httpx.Timeout(SILENCE_S_MAX, connect=5.0)
        try:
            async with self._http.stream("GET", f"{self.url}/v1/events", headers=headers, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                    raise failure(response, self.url)
                async for event in events_in(response):
                    yield event
        except (SSEError, ValueError) as error:
            raise Unreachable(f"The event stream of {self.url} is not one of a Darkroom ({error}).") from error
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error

    async def download(self, asset: Json, file: Path) -> None:
        """Download the asset's file, completely or not at all. Raises `DamagedFile` if its hash is not the ledger's."""
        url = httpx.URL(self.absolute(asset["url"]))
        # The token must not be sent to a signed URL of an object store.
        headers = self._headers if _origin(url) == _origin(httpx.URL(self.url)) else {}
        digest = hashlib.sha256()
        partial = file.with_name(f".{file.name}.part")
        try:
            async with self._http.stream("GET", url, headers=headers, follow_redirects=True) as response:
                if response.is_error:
                    await response.aread()
                    raise failure(response, self.url)
                with partial.open("wb") as out:
                    async for chunk in response.aiter_bytes():
                        digest.update(chunk)
                        out.write(chunk)
            if asset.get("sha256") not in {None, digest.hexdigest()}:
                raise DamagedFile(f"{url} did not come with the ledger's hash; run `darkroom verify --files`.")
            partial.replace(file)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        except OSError as error:
            raise NotWritten(f"cannot write {file}: {error.strerror or error}.") from error
        finally:
            with contextlib.suppress(OSError):  # the folder may be gone
                partial.unlink(missing_ok=True)

    def absolute(self, url: str) -> str:
        """A URL of the API's answers, made absolute."""
        return str(httpx.URL(self.url).join(url))

    async def _list(self, path: str, query: dict[str, str], limit: int) -> list[Json]:
        items: list[Json] = []
        while len(items) < limit:
            page = await self._json("GET", path, query=query)
            items += page["results"]
            if not page.get("next"):
                break
            query = query | {"cursor": page["next"]}
        return items[:limit]

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        file: IO[bytes] | None = None,
    ) -> Json:
        require_sendable(query)
        require_sendable(body)
        waits = {MIN_POSITION: str(self._position)} if method == "GET" and self._position else {}
        sent = self._headers | waits | (headers or {})
        files = None if file is None else {"file": ("file", file, "application/octet-stream")}
        timeout = TIMEOUT if file is None else UPLOAD_TIMEOUT
        request = self._http.build_request(
            method, self.url + path, params=query, json=body, files=files, headers=sent, timeout=timeout
        )
        response = await self._send(request)
        if response.is_error:
            raise failure(response, self.url)
        self._position = max(self._position, int(response.headers.get("Darkroom-Position", "0")))
        if response.status_code == httpx.codes.NO_CONTENT:
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.url} answers, but it is not a Darkroom; check --url or DARKROOM_URL.")
        return answer

    async def _send(self, request: httpx.Request) -> httpx.Response:
        for last in [False] * (TRIES_MAX - 1) + [True]:
            try:
                response = await self._http.send(request)
            except httpx.ConnectError as error:
                raise unreachable(self.url, error) from error
            except httpx.HTTPError as error:
                if last:
                    raise unreachable(self.url, error) from error
                continue
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or last:
                break
            await asyncio.sleep(_retry_after_s(response))
        return response


def failure(response: httpx.Response, url: str) -> ClientError:
    """An answer's problem as an error with one sentence, including the path of each bad field."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return Unreachable(
            f"{url} answered {response.status_code} {response.reason_phrase} without a reason; is it a Darkroom?"
        )
    sentence = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    fields = [one for one in problem.get("errors") or [] if isinstance(one, dict)]
    if fields:
        named = "; ".join(f"{one.get('path', '?')}: {one.get('detail', 'not allowed')}" for one in fields)
        sentence = named if all(str(one.get("detail")) in sentence for one in fields) else f"{_ended(sentence)} {named}"
    match response.status_code:
        case httpx.codes.UNAUTHORIZED:
            return NotSignedIn(f"{url} does not accept the token; give the right one with --token or DARKROOM_TOKEN.")
        case httpx.codes.NOT_FOUND:
            return NotThere(sentence)
        case httpx.codes.SERVICE_UNAVAILABLE:
            lasts = problem.get("code") in LASTING
            return ServerBusy(sentence if lasts else f"{_ended(sentence)} Try again in a moment.")
        case _:
            return Rejected(sentence)


def unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    """The error for a failed or broken connection."""
    why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else f"cannot be reached ({error})"
    return Unreachable(f"{url} {why}. Is `darkroom up` running there?")


def _ended(sentence: str) -> str:
    """With a full stop: another sentence follows."""
    return sentence if sentence.endswith((".", "!", "?", ":")) else f"{sentence}."


def _retry_after_s(response: httpx.Response) -> float:
    after = response.headers.get("Retry-After", "")
    return min(float(after) if after.isdecimal() else 1.0, RETRY_AFTER_S_MAX)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
