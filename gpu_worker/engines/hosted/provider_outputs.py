"""Fetch the output files of providers from their URLs. No token is used here."""

from urllib.parse import urlsplit

import httpx

from gpu_worker.engines import PredictionFailed, ProviderUnavailable
from gpu_worker.engines.hosted.provider import Pace, Pause
from gpu_worker.engines.hosted.provider_api import AGAIN, TooMuch, backoff_s, certificates, read_all

REDIRECTS_MAX = 5
TRIES_MAX = 5


class OutputGone(Exception):
    """The file no longer exists: providers delete them, after an hour at the earliest."""


class Outputs:
    """Fetches only over https; also over http from the API's own host if the API itself uses http."""

    def __init__(self, api_url: str, pace: Pace) -> None:
        self._api = urlsplit(api_url)
        self._pace = pace
        self._client = httpx.Client(
            verify=certificates(),
            timeout=httpx.Timeout(pace.answer_s_max, connect=10.0),
            follow_redirects=True,
            max_redirects=REDIRECTS_MAX,
            event_hooks={"request": [self._require_safe]},  # called for every redirect too
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def fetch(self, url: str, pause: Pause) -> bytes:
        """The whole file.

        Raises OutputGone, ProviderUnavailable, and PredictionFailed for a file that is not accepted.
        """
        try:
            where = httpx.URL(url)
        except httpx.InvalidURL:
            raise PredictionFailed("The output's address is not a URL.") from None
        tried = 0
        while True:
            tried += 1
            found = self._try(where, pause)
            if isinstance(found, bytes):
                return found
            if tried == TRIES_MAX:
                raise ProviderUnavailable(f"The output at {where.host} cannot be fetched: {found}.")
            pause(backoff_s(tried, self._pace))

    def _try(self, where: httpx.URL, pause: Pause) -> bytes | str:
        """The file, or why it is not available yet.

        Messages name only the host: a signed URL is as secret as a token.
        """
        try:
            with self._client.stream("GET", where) as response:
                if response.status_code in AGAIN:
                    return f"status {response.status_code}"
                if not response.is_success:
                    raise OutputGone(f"The output at {where.host} is gone: status {response.status_code}.")
                return read_all(
                    response,
                    bytes_max=self._pace.output_bytes_max,
                    seconds_max=self._pace.output_s_max,
                    between=lambda: pause(0.0),
                )
        except TooMuch as error:
            raise PredictionFailed(f"The output at {where.host} is not taken: {error}.") from None
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise PredictionFailed(f"The output's address leads nowhere: {type(error).__name__}.") from None
        except httpx.HTTPError as error:
            return type(error).__name__

    def _require_safe(self, request: httpx.Request) -> None:
        if request.url.scheme == "https":
            return
        if request.url.scheme == self._api.scheme and request.url.host == self._api.hostname:
            return
        where = f"{request.url.scheme}://{request.url.host}"
        raise PredictionFailed(f"The output at {where} is not fetched: its address has to begin with https://.")
