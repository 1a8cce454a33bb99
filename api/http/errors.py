"""The one table from refusal to HTTP: every error of domain, services and API by its stable code, as RFC 9457 problems.

The API's own errors:

ApiError
├── Unauthorized             the token is missing or unknown
├── LinkUsed                 a sign-in link was used before, has expired, or never existed
├── Forbidden                only for administrators
├── CrossOrigin              a cookie came from a page of another origin
├── CredentialNeeded         a session cannot do this: it needs a token or an API key
├── RateLimited              too many requests of one owner
├── TooManyInWork            the owner has no place left for another request at the same time
├── Busy                     all places for such requests are taken
├── TooManyConnections       no further connection is accepted now
├── HeadTooLarge             address and headers are above the limit
├── HeadTooSlow              address and headers did not arrive in time
├── BodyTooSlow              the body arrives too slowly
├── MalformedRequest         the bytes are not HTTP
├── BodyTooLarge             above the limit; nothing of it was used
├── MalformedJson            not JSON; says where
├── UnsupportedMediaType     a body that is not `application/json`, or not a form where a file is expected
├── IdempotencyKeyInvalid    not 1 to 255 visible ASCII characters
├── InvalidCursor            not a cursor of this list
├── RangeNotSatisfiable      no byte of the file is in the range
├── UploadsBusy              too many uploads at a time
├── ViewBehind               the views did not reach the requested position in time
├── BrokerUnavailable        NATS is not connected: writes wait
└── RebuildUnavailable       this process was started without a rebuilder
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from domain.errors import FieldProblem, InvalidInput, Refused
from domain.validation_words import words_for
from services.database import Unavailable
from services.files.blobs import BlobMissing, BlobStoreUnavailable
from services.files.decoders.bounded import DecodingUnavailable
from services.files.media.kinds import UnreadableMedia
from services.ledger.flusher import OutcomeUnknown
from services.views.rebuild import RebuildRunning

log = logging.getLogger(__name__)

IDEMPOTENCY_KEY: Final = "darkroom.idempotency_key"
"""Key of a request's scope with its Idempotency-Key, for every answer to it."""

MEDIA_TYPE: Final = "application/problem+json"

RETRY_AFTER_S: Final = 2
"""Seconds that a client should wait: embedded servers restart within seconds, and asking is cheap."""


class ApiError(Exception):
    """A request that does not reach the domain. `code` is stable; `str()` is a sentence a person can act on."""

    code = "bad_request"
    headers: Mapping[str, str] = {}


class Unauthorized(ApiError):
    """The token is missing or unknown."""

    code = "unauthorized"
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="darkroom"'}

    def __init__(self, *, given: bool) -> None:
        wrong = "The token is not valid" if given else "This needs a token"
        super().__init__(f"{wrong}: send `Authorization: Bearer TOKEN`, or open the link that `darkroom up` prints.")


class LinkUsed(ApiError):
    """A sign-in link works once."""

    code = "sign_in_link_used"

    def __init__(self) -> None:
        super().__init__(
            "This sign-in link was used before, has expired, or was never made; `darkroom sign-in` prints a new one."
        )


class CrossOrigin(ApiError):
    """A page of another origin, or a request that does not declare its origin, used the session of a browser."""

    code = "cross_origin"

    def __init__(self) -> None:
        super().__init__(
            "The session of a browser is taken from pages of this server alone (Origin, Sec-Fetch-Site); "
            "programs send `Authorization: Bearer TOKEN`."
        )


class CredentialNeeded(ApiError):
    """A session cannot create credentials, which would outlive it."""

    code = "credential_needed"

    def __init__(self) -> None:
        super().__init__(
            "A session cannot make sign-in links; send a token or API key as `Authorization: Bearer TOKEN`."
        )


class Forbidden(ApiError):
    """Only for administrators."""

    code = "forbidden"

    def __init__(self) -> None:
        super().__init__("Only an administrator may do this; use the administrator's token.")


class RateLimited(ApiError):
    """Too many requests of one owner."""

    code = "rate_limited"

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"Too many requests; the next one is taken in {wait_s} s.")
        self.headers = {"Retry-After": str(wait_s)}


class TooManyInWork(ApiError):
    """The owner has no place left for another request at the same time."""

    code = "too_many_in_work"

    def __init__(self, words: str, most: int) -> None:
        super().__init__(f"{most} {words} of yours are in work, the most at a time; let one end, or try again later.")
        self.headers = {"Retry-After": str(RETRY_AFTER_S)}


class Busy(ApiError):
    """All places for such requests are taken, partly by other owners."""

    code = "busy"

    def __init__(self, words: str) -> None:
        super().__init__(f"No further {words} are taken now, because too many are in work; try again in a moment.")


class TooManyConnections(ApiError):
    """No further connection is accepted now."""

    code = "too_many_connections"

    def __init__(self) -> None:
        super().__init__("Too many connections are open; close some, or try again in a moment.")


class HeadTooLarge(ApiError):
    """Address and headers are above the limit."""

    code = "head_too_large"
    headers: Mapping[str, str] = {"Connection": "close"}

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Address and headers are larger than {limit_bytes} bytes together.")


class HeadTooSlow(ApiError):
    """Address and headers did not arrive in time."""

    code = "request_timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"Address and headers did not come within {limit_s:g} s.")


class BodyTooSlow(ApiError):
    """The body arrives too slowly. Nothing of it was used."""

    code = "request_timeout"
    headers: Mapping[str, str] = {"Connection": "close"}

    def __init__(self) -> None:
        super().__init__("The body came too slowly, and nothing of it was used; send it again on a better line.")


class MalformedRequest(ApiError):
    """The bytes are not an HTTP request."""

    code = "bad_request"

    def __init__(self) -> None:
        super().__init__(
            "The bytes on this connection are not an HTTP/1.1 request with one Host; the connection is closed."
        )


class BodyTooLarge(ApiError):
    """Above the limit."""

    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes} bytes, the most that this call takes.")


class MalformedJson(ApiError):
    """The body is not JSON."""

    code = "malformed_json"


class UnsupportedMediaType(ApiError):
    """The body's declared type is not one that the call accepts."""

    code = "unsupported_media_type"

    def __init__(self, given: str, *, wanted: str = "application/json") -> None:
        said = f"not {given!r}" if given else "but the request has no Content-Type"
        super().__init__(f"The body must be sent as `Content-Type: {wanted}`, {said}.")


class IdempotencyKeyInvalid(InvalidInput):
    """Not 1 to 255 visible ASCII characters."""

    code = "idempotency_key_invalid"


class InvalidCursor(ApiError):
    """Not a cursor of this list."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__("The cursor is not one that this list gave out; leave it away to begin with the newest.")


class RangeNotSatisfiable(ApiError):
    """No byte of the file is in the range."""

    code = "range_not_satisfiable"

    def __init__(self, total_bytes: int) -> None:
        super().__init__(f"The range lies outside the file, which has {total_bytes} bytes.")
        self.headers = {"Content-Range": f"bytes */{total_bytes}"}


class FileDamaged(ApiError):
    """The object store has other bytes than the ledger recorded; they are not sent as the file."""

    code = "file_damaged"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The file {path} is damaged: its hash is not the one in the ledger. An operator can put it back from a "
            "backup; `darkroom verify --files` lists all such files."
        )


class UploadsBusy(ApiError):
    """Too many uploads at a time, of this owner or of all. Nothing of it was used."""

    code = "uploads_busy"

    def __init__(self) -> None:
        super().__init__("Too many uploads are in work; send it again when the others have ended.")


class ViewBehind(ApiError):
    """The views did not reach the position in time. Nothing is lost; ask again."""

    code = "view_behind"

    def __init__(self, position: int, behind: Mapping[str, int]) -> None:
        views = ", ".join(f"{view} is at {at}" for view, at in sorted(behind.items()))
        super().__init__(f"The views have not reached position {position} yet ({views}); ask again in a moment.")


class BrokerUnavailable(ApiError):
    """NATS is not connected; no write is accepted that could not be published."""

    code = "broker_unavailable"

    def __init__(self) -> None:
        super().__init__("NATS cannot be reached, so nothing was changed; try again in a moment.")


class RebuildUnavailable(ApiError):
    """This process was started without a rebuilder."""

    code = "rebuild_unavailable"

    def __init__(self) -> None:
        super().__init__("This API cannot rebuild views; run `darkroom rebuild VIEW` on the machine.")


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """The status and title for a code."""

    status: int
    title: str


TABLE: Final[Mapping[str, ProblemKind]] = {
    "bad_request": ProblemKind(400, "Bad request"),
    "malformed_json": ProblemKind(400, "Malformed JSON"),
    "unauthorized": ProblemKind(401, "Unauthorized"),
    "sign_in_link_used": ProblemKind(401, "Sign-in link used"),
    "forbidden": ProblemKind(403, "Forbidden"),
    "cross_origin": ProblemKind(403, "Cross-origin request"),
    "credential_needed": ProblemKind(403, "Token or API key needed"),
    "not_found": ProblemKind(404, "Not found"),
    "blob_missing": ProblemKind(404, "File missing"),
    "method_not_allowed": ProblemKind(405, "Method not allowed"),
    "nothing_to_retry": ProblemKind(409, "Nothing to retry"),
    "asset_not_completed": ProblemKind(409, "Asset not completed"),
    "asset_not_trashed": ProblemKind(409, "Asset not in the trash"),
    "asset_purged": ProblemKind(410, "Asset purged"),
    "job_ended": ProblemKind(409, "Job ended"),
    "pool_held": ProblemKind(409, "Pool held back"),
    "worker_held": ProblemKind(409, "Worker held back"),
    "asset_in_progress": ProblemKind(409, "Asset in progress"),
    "media_in_use": ProblemKind(409, "Media in use"),
    "batch_moved_on": ProblemKind(409, "Batch moved on"),
    "not_a_comparison": ProblemKind(409, "Not a comparison"),
    "media_moved": ProblemKind(409, "Media moved"),
    "attempt_superseded": ProblemKind(409, "Attempt superseded"),
    "attempt_of_another": ProblemKind(409, "Attempt of another worker"),
    "asset_ended": ProblemKind(409, "Asset ended"),
    "prompt_already_enhanced": ProblemKind(409, "Prompt already enhanced"),
    "job_not_startable": ProblemKind(409, "Job not startable"),
    "rebuild_running": ProblemKind(409, "Rebuild running"),
    "refused": ProblemKind(409, "Refused"),
    "request_timeout": ProblemKind(408, "Request timeout"),
    "body_too_large": ProblemKind(413, "Body too large"),
    "event_too_large": ProblemKind(413, "Event too large"),
    "unsupported_media_type": ProblemKind(415, "Unsupported media type"),
    "range_not_satisfiable": ProblemKind(416, "Range not satisfiable"),
    "invalid_input": ProblemKind(422, "Invalid input"),
    "invalid_cursor": ProblemKind(422, "Invalid cursor"),
    "media_unreadable": ProblemKind(422, "Media unreadable"),
    "idempotency_key_invalid": ProblemKind(422, "Idempotency-Key invalid"),
    "idempotency_key_reused": ProblemKind(422, "Idempotency-Key reused"),
    "rate_limited": ProblemKind(429, "Too many requests"),
    "too_many_in_work": ProblemKind(429, "Too many requests in work"),
    "head_too_large": ProblemKind(431, "Request header fields too large"),
    "internal": ProblemKind(500, "Internal error"),
    "file_damaged": ProblemKind(500, "File damaged"),
    "unavailable": ProblemKind(503, "Unavailable"),
    "ledger_stopped": ProblemKind(503, "Writes are stopped"),
    "outcome_unknown": ProblemKind(503, "Outcome unknown"),
    "blob_store_unavailable": ProblemKind(503, "Object store unavailable"),
    "busy": ProblemKind(503, "Busy"),
    "too_many_connections": ProblemKind(503, "Too many connections"),
    "broker_unavailable": ProblemKind(503, "NATS unavailable"),
    "rebuild_unavailable": ProblemKind(503, "Rebuild unavailable"),
    "decoding_unavailable": ProblemKind(503, "Decoding unavailable"),
    "uploads_busy": ProblemKind(503, "Uploads busy"),
    "view_behind": ProblemKind(503, "View behind"),
}

KNOWN: Final = (
    ApiError,
    Refused,
    Unavailable,
    BlobMissing,
    BlobStoreUnavailable,
    RebuildRunning,
    UnreadableMedia,
    DecodingUnavailable,
)
"""Every class that has a code in the table."""

UNROUTED: Final[Mapping[int, tuple[str, str]]] = {
    404: ("not_found", "There is nothing at this address; /openapi.json lists what there is."),
    405: ("method_not_allowed", "This address does not take that method; /openapi.json says which it takes."),
}


def problem(
    code: str, detail: str, *, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """The answer for a code of the table."""
    content = problem_document(code, detail, errors)
    status = TABLE[code].status
    sent = dict(headers or {})
    if status == 503:
        sent["Retry-After"] = str(RETRY_AFTER_S)
    kind = Trouble if status >= 500 else Response
    return kind(orjson.dumps(content), status_code=status, headers=sent, media_type=MEDIA_TYPE)


class Trouble(Response):
    """A problem on the server's side: each is logged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        told = orjson.loads(self.body)
        log.warning(
            "%s %s answered %d %s: %s", scope["method"], scope["path"], self.status_code, told["code"], told["detail"]
        )
        await super().__call__(scope, receive, send)


def problem_document(code: str, detail: str, errors: Sequence[FieldProblem] = ()) -> dict[str, Any]:
    """`Problem`, as an answer of its own or as part of an answer next to successful items."""
    answer = TABLE[code]
    content: dict[str, Any] = {
        "type": f"urn:darkroom:problem:{code}",
        "title": answer.title,
        "status": answer.status,
        "code": code,
        "detail": detail,
    }
    if errors:
        content["errors"] = [{"path": one.path, "detail": one.detail} for one in errors]
    return content


def problem_of(error: Exception) -> Response:
    """The answer for an error of `KNOWN`."""
    code = str(getattr(error, "code", "internal"))
    errors = error.problems if isinstance(error, InvalidInput) else ()
    headers = error.headers if isinstance(error, ApiError) else None
    return problem(code, str(error), errors=errors, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    for known in KNOWN:
        app.add_exception_handler(known, _known)
    app.add_exception_handler(RequestValidationError, _invalid_query)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(ClientDisconnect, _gone)


async def _known(request: Request, error: Exception) -> Response:
    if isinstance(error, OutcomeUnknown):
        key = " with the same Idempotency-Key, which this answer names" if IDEMPOTENCY_KEY in request.scope else ""
        return problem(error.code, f"{error} Send the same request again{key}: it is carried out once.")
    return problem_of(error)


async def _invalid_query(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    problems = [FieldProblem(".".join(str(part) for part in one["loc"][1:]), words_for(one)) for one in found]
    return problem_of(InvalidInput(problems))


async def _unrouted(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, detail = UNROUTED.get(status, ("bad_request", "The request cannot be read."))
    headers = getattr(error, "headers", None)
    return problem(code, detail, headers=headers)


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody will read the answer: the client disconnected before its request was complete."""
    return problem("bad_request", "The request broke off.")


def internal() -> Response:
    """The answer to an unexpected error."""
    return problem("internal", "Something went wrong inside Darkroom; its log says what. Nothing more was changed.")
