"""Remove secrets from any text: errors, stacks, notes and logs."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"

CREDENTIALS = re.compile(r"(?<=://)[^\s,]*(?=@)")

SECRET_CHARS_MIN = 6
"""Minimum characters of a secret in an environment variable: removing shorter values would make texts unreadable."""

NAMES = "password|passwd|passphrase|secret(?:[_-]?key)?|token|api[_-]?key|access[_-]?key|credentials?|signature|dsn"
SECRET_VARIABLE = re.compile(rf"{NAMES}|auth|(?:^|_)(?:key|pass|pw|pat)(?:_|$)", re.IGNORECASE)

AUTHORIZATION = re.compile(
    r"(?P<kept>\b(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|key|token)\s+)?[^\s'\",;)}\]]+",
    re.IGNORECASE,
)
BEARER = re.compile(r"(?P<kept>\bbearer\s+)[^\s'\",;)}\]]+", re.IGNORECASE)
NAMED = re.compile(
    rf"(?P<kept>[\w.-]*(?:{NAMES}|[?&]sig)['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s'\",;&)}}\]]+)",
    re.IGNORECASE,
)
"""`password=…`, `"api_key": "…"`, `?token=…`: libpq's connection strings, JSON, headers and URLs."""


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without credentials in URLs, tokens in headers and queries, and values of secret variables.

    The variables are those of `environment`, by default of this process.
    """
    return without_secrets(text, secrets_of(os.environ if environment is None else environment))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text without credentials, tokens and these secrets."""
    text = without_values(text, secrets)
    for pattern in (AUTHORIZATION, BEARER, NAMED):
        text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
    return text


def without_values(text: str, secrets: Iterable[str]) -> str:
    """The text without these values and without credentials in URLs; other tokens stay."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return without_credentials(text)


def without_credentials(text: str) -> str:
    """The text with the user and password of every URL in it replaced by `***`."""
    return CREDENTIALS.sub(HIDDEN, text)


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """The values of all variables with a name of a secret, and passwords in URLs; plain and URL-encoded."""
    found: set[str] = set()
    for name, value in environment.items():
        for secret in [*(value.splitlines() if SECRET_VARIABLE.search(name) else ()), *passwords(value)]:
            found |= {secret.strip(), quote(secret, safe=""), unquote(secret)}
    return frozenset(secret for secret in found if len(secret) >= SECRET_CHARS_MIN)


def passwords(value: str) -> Iterator[str]:
    """The passwords in URLs in a variable's value, which may hold several URLs separated by commas."""
    for url in value.split(","):
        try:
            password = urlsplit(url.strip()).password
        except ValueError:  # not a URL
            continue
        if password:
            yield password


def one_line(error: BaseException, characters_max: int = 200) -> str:
    """The first line of an error's text, bounded, without secrets."""
    lines = redacted(str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0][:characters_max]
