"""What can be wrong with NATS, the object store and the API."""

import asyncio
from typing import Final
from uuid import uuid4

import httpx
import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from api.cli.doctor.scene import CheckSkipped, Examination, Fault
from services.files.blobs import BlobMissing, Blobs, BlobStoreUnavailable
from services.messaging.wire import WORK_STREAM, nats_servers

ANSWER_S_MAX: Final = 3

PROBE: Final = b"A file of `darkroom doctor`; it may be deleted.\n"


def nats_usable(scene: Examination) -> None:
    """NATS answers, lets us in, and has JetStream."""
    given = scene.given.nats_url
    if given is None:
        raise CheckSkipped("`darkroom up` has its own; the check `api` says how it is")
    asyncio.run(_ask_nats(nats_servers(given.get_secret_value())))


async def _ask_nats(urls: list[str]) -> None:
    said: list[Exception] = []

    async def heard(error: Exception) -> None:
        said.append(error)

    client = Client()
    try:
        await client.connect(
            urls, connect_timeout=ANSWER_S_MAX, allow_reconnect=False, max_reconnect_attempts=1, error_cb=heard
        )
        await client.jetstream(timeout=ANSWER_S_MAX).stream_info(WORK_STREAM)
    except NotFoundError:
        return  # the dispatcher makes it
    except (APIError, nats.errors.Error, OSError, TimeoutError) as error:
        if client.is_connected:
            raise Fault(
                "NATS runs without JetStream, or this user may not use it.",
                "Start it with `-js` and a store_dir; docs/least-rights.md has the rights of each user.",
            ) from None
        if "authorization" in " ".join(map(str, [*said, error])).lower():
            raise Fault("NATS refuses the user or the password.", "Correct them in DARKROOM_NATS_URL.") from None
        raise Fault("NATS cannot be reached.", "See that it runs, and that DARKROOM_NATS_URL has its port.") from None
    finally:
        await client.close()


def store_usable(scene: Examination) -> None:
    """A file can be written to the object store, read and deleted."""
    if scene.given.blobs_url is None and not scene.folder.exists():
        raise CheckSkipped("nothing has run on the data folder yet; `darkroom up` makes it")  # and a look makes nothing
    url = scene.given.blobs()
    remedy = "See that DARKROOM_BLOBS_URL names a folder or bucket that this user may write, and that it has room."
    path = f"doctor/{uuid4()}"
    try:
        blobs = Blobs(url)
        blobs.put_once(path, PROBE)
        content = blobs.get(path)
        blobs.delete(path)
    except (BlobMissing, BlobStoreUnavailable, OSError) as error:
        raise Fault(f"The object store cannot be used: {(str(error).splitlines() or [''])[0]}", remedy) from None
    except Exception as error:  # a URL that the library does not take raises what it likes
        raise Fault(f"DARKROOM_BLOBS_URL: {(str(error).splitlines() or [''])[0]}", remedy) from None
    if content != PROBE:
        raise Fault("The object store gives back other bytes than were written.", "Find out what lies in between.")


def api_answers(scene: Examination) -> None:
    """The API that the client commands would speak to answers, is ready, and takes their token."""
    own = scene.read("url")
    url = scene.given.url or own
    if url is None:
        raise CheckSkipped("no Darkroom runs on the data folder, and DARKROOM_URL names no other")
    token = scene.given.token.get_secret_value() if scene.given.token else None
    if token is None and url == own:
        token = scene.read("admin.token")
    try:
        with httpx.Client(base_url=url, timeout=ANSWER_S_MAX, trust_env=False) as client:
            ready = client.get("/readyz")
            asked = client.get("/v1/jobs", params={"limit": 1}, headers={"Authorization": f"Bearer {token or ''}"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Fault(
            f"Nothing answers at {url}: {type(error).__name__}.",
            "Start it with `darkroom up` or `darkroom run api`, or correct DARKROOM_URL.",
        ) from None
    _judge(url, ready, asked)


def _judge(url: str, ready: httpx.Response, asked: httpx.Response) -> None:
    try:
        reasons = ready.json()["reasons"]
    except (ValueError, KeyError, TypeError):
        raise Fault(f"What answers at {url} is not Darkroom.", "Correct DARKROOM_URL, or the port.") from None
    if asked.status_code == 401:
        raise Fault(
            f"The API at {url} does not take the token.",
            "Give its own in DARKROOM_TOKEN; that of `darkroom up` is in admin.token in its data folder.",
        )
    if reasons:
        raise Fault(
            f"The API at {url} is not ready: {' '.join(reasons)}", "Fix that first; then it becomes ready by itself."
        )
