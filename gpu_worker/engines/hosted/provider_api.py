"""HTTP common to all providers: tokens, retries and the meaning of errors."""

import email.utils
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
from pydantic import SecretStr

from gpu_worker.engines import InvalidRequest, ModelUnavailable, ProviderUnavailable
from gpu_worker.engines.hosted.provider import Account, Pace, Pause

TOKEN = re.compile(r"[!-~]+")
WORDS_MAX = 300
"""Maximum characters of a provider's error message."""

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which a request may be repeated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    @property
    def unknown(self) -> bool:
        """Whether the resource does not exist, or its id is not of this provider."""
        return self.status in {400, 404, 410, 422}

    def fields(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is none."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Trouble:
    why: str
    again: bool
    after_s: float = 0.0


class Api:
    """A provider's HTTP API.

    The token is sent only to its host: no redirect is followed, no other host is contacted.
    """

    def __init__(self, title: str, variable: str, scheme: str, account: Account, pace: Pace) -> None:
        """Take the provider's name, the variable that holds the token, and how the token is sent.

        Raises ModelUnavailable without a token, or with one that cannot be sent.
        """
        token = "" if account.token is None else account.token.get_secret_value().strip()
        if not TOKEN.fullmatch(token):
            what = "holds something that is no token" if token else "is not set"
            raise ModelUnavailable(f"{title} wants a token, and {variable} {what} in the worker's environment.")
        self.title = title
        self._variable = variable
        self._token = SecretStr(token)
        self._pace = pace
        self._client = httpx.Client(
            base_url=account.url,
            verify=certificates(),
            headers={"Authorization": f"{scheme} {token}"},
            timeout=httpx.Timeout(pace.answer_s_max, connect=10.0),
            # No connection is kept: an order on a connection that the provider is closing would have an unknown fate.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def order(self, path: str, body: Mapping[str, Any], pause: Pause) -> Answer:
        """POST of an order that costs money: see `Provider.submit`.

        Returns only an answer that is ok; raises otherwise.
        """
        answer = self._send("POST", path, pause, body=body, repeatable=False)
        if not answer.ok:
            raise self._refusal(answer)
        return answer

    def ask(self, path: str, pause: Pause, *, final: Callable[[Answer], bool] | None = None) -> Answer:
        """GET. The answer is ok, or describes an error of the requested resource.

        `final` recognises answers that are final despite a status that is otherwise retried.
        """
        answer = self._send("GET", path, pause, final=final)
        if answer.status in {401, 402, 403} or 300 <= answer.status < 400:
            raise self._refusal(answer)
        return answer

    def stop(self, method: str, path: str, pause: Pause) -> None:
        """Cancel something, with few tries, because the caller waits.

        A refusal is fine: it has ended or never existed.
        """
        self._send(method, path, pause, tries_max=3)

    def words(self, answer: Answer) -> str:
        """The provider's error message: one line, bounded, without the token."""
        said = " ".join(_words_in(answer.fields()).split()) or f"status {answer.status}"
        return said.replace(self._token.get_secret_value(), "***")[:WORDS_MAX]

    def _send(
        self,
        method: str,
        path: str,
        pause: Pause,
        *,
        body: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        final: Callable[[Answer], bool] | None = None,
        tries_max: int | None = None,
    ) -> Answer:
        tries_max = tries_max or self._pace.tries_max
        tried = 0
        while True:
            tried += 1
            outcome = self._try(method, path, body, repeatable=repeatable, final=final)
            if isinstance(outcome, Answer):
                return outcome
            if not outcome.again or tried == tries_max or outcome.after_s > self._pace.retry_after_s_max:
                raise ProviderUnavailable(f"{self.title} is not available: {outcome.why} (tried {tried} x).")
            pause(max(outcome.after_s, backoff_s(tried, self._pace)))

    def _try(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        repeatable: bool,
        final: Callable[[Answer], bool] | None,
    ) -> Answer | _Trouble:
        try:
            with self._client.stream(method, path, json=body) as response:
                content = read_all(response, bytes_max=self._pace.answer_bytes_max, seconds_max=self._pace.answer_s_max)
                answer = Answer(response.status_code, response.headers, content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Trouble(f"no connection: {type(error).__name__}", again=True)
        except (httpx.HTTPError, TooMuch) as error:
            doubt = "" if repeatable else "; it may have the order nevertheless"
            return _Trouble(f"no answer: {type(error).__name__}{doubt}", again=repeatable)
        if answer.status not in AGAIN or (final is not None and final(answer)):
            return answer
        after_s = retry_after_s(answer.headers)
        refused = answer.status == 429 or (answer.status == 503 and after_s is not None)
        return _Trouble(self.words(answer), again=repeatable or refused, after_s=after_s or 0.0)

    def _refusal(self, answer: Answer) -> Exception:
        said = self.words(answer)
        match answer.status:
            case 401 | 403:
                return ModelUnavailable(
                    f"{self.title} refuses the token; check {self._variable} and the account in its dashboard: {said}."
                )
            case 402:
                return ModelUnavailable(f"{self.title} wants to be paid first; add credit to the account: {said}.")
            case 404:
                return ModelUnavailable(f"{self.title} has no such model; check its source in DARKROOM_MODELS: {said}.")
            case status if 400 <= status < 500:
                return InvalidRequest(f"{self.title} refuses the request: {said}.")
            case _:
                return ProviderUnavailable(f"{self.title} gave an answer that nobody expects: status {answer.status}.")


@cache
def certificates() -> ssl.SSLContext:
    """The trusted certificates; loaded once because that is slow."""
    return httpx.create_ssl_context()


class TooMuch(Exception):
    """The answer exceeds the maximum size."""


def read_all(
    response: httpx.Response, *, bytes_max: int, seconds_max: float, between: Callable[[], None] | None = None
) -> bytes:
    """Read a streamed answer to its end; `between` is called after every part.

    Raises `TooMuch`, `httpx.HTTPError`, and exceptions of `between`.
    """
    give_up_at_s = time.monotonic() + seconds_max
    content = bytearray()
    for part in response.iter_bytes(64 * 1024):
        content += part
        if len(content) > bytes_max:
            raise TooMuch(f"more than {bytes_max} bytes")
        if time.monotonic() > give_up_at_s:
            raise httpx.ReadTimeout(f"more than {seconds_max:g} s", request=response.request)
        if between is not None:
            between()
    return bytes(content)


def backoff_s(tried: int, pace: Pace) -> float:
    """Seconds to wait after `tried` tries: full jitter."""
    return random.uniform(0.0, min(pace.retry_s_max, pace.retry_s_first * 2.0 ** (tried - 1)))  # noqa: S311 - no secret


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds until the time in `Retry-After`, a number or a date; None without one."""
    value = headers.get("retry-after", "").strip()
    try:
        if value.isdecimal():
            return float(value)
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _words_in(fields: Mapping[str, Any]) -> str:
    for key in ("detail", "error", "message", "title"):
        match fields.get(key):
            case str(said) if said.strip():
                return said.rstrip(". \n")
            case [*found] if found:  # pydantic's list of errors, which fal's models return
                return "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in found)
    return ""
