"""A provider of hosted models: what each adapter can do, and how patient it is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from domain.recipe import ParamValue

Pause = Callable[[float], None]
"""Waits so many seconds; raises RenderCanceled when the job is canceled meanwhile."""

Inputs = Mapping[str, ParamValue | Mapping[str, int]]
"""What a model is given, by the provider's names."""

SUBMITTED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
"""What may stand for a prediction in a path."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, and how much to take. Seconds and bytes."""

    poll_s_min: float = 0.5
    poll_s_max: float = 5.0
    """Polls of what is in work: half a second at first, for models that take one, then less often."""
    retry_s_first: float = 0.5
    retry_s_max: float = 30.0
    """Between tries: exponential with full jitter, doubling from the first to the most."""
    retry_after_s_max: float = 60.0
    """A provider that asks to wait longer is left alone: another attempt of the job comes back later."""
    tries_max: int = 12
    """Of one call: about a minute and a half in the mean."""
    answer_s_max: float = 30.0
    answer_bytes_max: int = 4 * 2**20
    output_s_max: float = 300.0
    output_bytes_max: int = 256 * 2**20
    work_s_max: float = 3600.0
    """A prediction that has no end by then is canceled. Replicate gives up a run after 30 minutes by itself."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where a provider's API is, and the token that it is asked with."""

    url: str
    token: SecretStr | None


@dataclass(frozen=True, slots=True)
class Running:
    """In the queue or in work; `progress` is 0 … 1."""

    progress: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output can be fetched. `seconds` is what the model took, where the provider says so."""

    url: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The prediction has ended without an output."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider has no such prediction, or has deleted its output."""


Prediction = Running | Succeeded | Failed | Unknown


class Provider(Protocol):
    """One model of one provider. Each method raises ProviderUnavailable and ModelUnavailable."""

    @property
    def name(self) -> str:
        """What the ledger calls the provider."""

    @property
    def model(self) -> str:
        """What the provider calls the model."""

    def submit(self, inputs: Inputs, pause: Pause) -> str:
        """Order one output; the id of the prediction. It costs from here on. Raises InvalidRequest as well.

        No API of a provider takes an idempotency key, so it is sent once more only when it is certain that it was not
        accepted: no connection, 429, or 503 with the time to come back. Anything else that brings no id is
        ProviderUnavailable: perhaps the provider works on an order whose id nobody knows.
        """

    def poll(self, prediction_id: str, pause: Pause) -> Prediction:
        """What has become of it. A repeat is safe."""

    def cancel(self, prediction_id: str, pause: Pause) -> None:
        """Ask to stop it; one that has ended stays as it is. A repeat is safe."""
