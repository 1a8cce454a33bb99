"""The interface of a provider of hosted models, and its timeouts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from domain.recipes.recipe import ParamValue

Pause = Callable[[float], None]
"""Waits a number of seconds; raises RenderCanceled when the job is canceled meanwhile."""

Inputs = Mapping[str, ParamValue | Mapping[str, int]]
"""The inputs of a model, by the provider's names."""

SUBMITTED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
"""Valid ids of a prediction in a path."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits and limits, in seconds and bytes."""

    poll_s_min: float = 0.5
    poll_s_max: float = 5.0
    """Maximum seconds between polls: half a second at first, for fast models, then less often."""
    retry_s_first: float = 0.5
    retry_s_max: float = 30.0
    """Maximum seconds between tries: exponential with full jitter, doubling."""
    retry_after_s_max: float = 60.0
    """Maximum seconds of a wait that a provider asks for. After a longer one, another attempt of the job returns
    later."""
    tries_max: int = 12
    """Maximum number of tries of one call: about a minute and a half on average."""
    answer_s_max: float = 30.0
    answer_bytes_max: int = 4 * 2**20
    output_s_max: float = 300.0
    output_bytes_max: int = 256 * 2**20
    work_s_max: float = 3600.0
    """Seconds after which an unfinished prediction is canceled. Replicate itself gives up a run after 30 minutes."""


@dataclass(frozen=True, slots=True)
class Account:
    """The URL of a provider's API, and its token."""

    url: str
    token: SecretStr | None


@dataclass(frozen=True, slots=True)
class RunningPrediction:
    """Queued or in progress; `progress` is 0 … 1."""

    progress: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output can be fetched. `seconds` is the model's run time, if the provider reports it."""

    url: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class FailedPrediction:
    """The prediction has ended without an output."""

    error: Exception


@dataclass(frozen=True, slots=True)
class UnknownPrediction:
    """The provider has no such prediction, or has deleted its output."""


Prediction = RunningPrediction | Succeeded | FailedPrediction | UnknownPrediction


class Provider(Protocol):
    """One model of one provider. Each method raises ProviderUnavailable and ModelUnavailable."""

    @property
    def name(self) -> str:
        """The provider's name in the ledger."""

    @property
    def model(self) -> str:
        """The provider's name of the model."""

    def submit(self, inputs: Inputs, pause: Pause) -> str:
        """Order one output; returns the id of the prediction.

        It costs money from here on. Raises InvalidRequest as well.

        No provider's API accepts an idempotency key, so the order is repeated only when it was certainly not accepted:
        no connection, 429, or 503 with the time to come back. Any other answer without an id raises
        ProviderUnavailable: the provider may be working on an order with an unknown id.
        """

    def poll(self, prediction_id: str, pause: Pause) -> Prediction:
        """The state of the prediction. Safe to repeat."""

    def cancel(self, prediction_id: str, pause: Pause) -> None:
        """Request cancellation; a finished prediction stays as it is. Safe to repeat."""
