"""Replicate's predictions API (https://replicate.com/docs/reference/http) as a provider of hosted models.

An order is `POST /v1/models/OWNER/NAME/predictions`, or `POST /v1/predictions` for a version; its state is `GET
/v1/predictions/ID`. Outputs are deleted after an hour, and a run is given up after 30 minutes.
"""

import re
from typing import Any, Final

from gpu_worker.engines import InvalidRequest, ModelUnavailable, PredictionFailed, ProviderUnavailable
from gpu_worker.engines.hosted.provider import (
    SUBMITTED_ID,
    Account,
    FailedPrediction,
    Inputs,
    Pace,
    Pause,
    Prediction,
    RunningPrediction,
    Succeeded,
    UnknownPrediction,
)
from gpu_worker.engines.hosted.provider_api import Api

NAME: Final = "replicate"
URL: Final = "https://api.replicate.com"
TOKEN_VARIABLE: Final = "REPLICATE_API_TOKEN"  # noqa: S105 - its name

MODEL = re.compile(r"(?P<path>\w[\w.-]*/\w[\w.-]*)(:(?P<version>[0-9a-f]{64}))?", re.ASCII)
PERCENT = re.compile(r"\b(\d{1,3})%\|")
"""The progress of tqdm, which most models use to count steps, in the logs."""

FILTERED = re.compile(r"nsfw|flagged as sensitive|\(E005\)", re.IGNORECASE)
"""Messages of Replicate's models after their content filter has refused an output."""


class Replicate:
    """A model, `owner/name` or `owner/name:version`."""

    name = NAME

    def __init__(self, model: str, account: Account, pace: Pace) -> None:
        """Raises ModelUnavailable for an invalid name, and without a token."""
        found = MODEL.fullmatch(model)
        if found is None:
            raise ModelUnavailable(f"replicate:{model} is not replicate:OWNER/NAME or replicate:OWNER/NAME:VERSION.")
        self.model = model
        self._path, self._version = found["path"], found["version"]
        self._api = Api("Replicate", TOKEN_VARIABLE, "Bearer", account, pace)

    def submit(self, inputs: Inputs, pause: Pause) -> str:
        """See `Provider.submit`."""
        if self._version is None:
            answer = self._api.order(f"/v1/models/{self._path}/predictions", {"input": inputs}, pause)
        else:
            answer = self._api.order("/v1/predictions", {"version": self._version, "input": inputs}, pause)
        prediction_id = str(answer.fields().get("id", ""))
        if not SUBMITTED_ID.fullmatch(prediction_id):
            raise ProviderUnavailable("Replicate took the order and gave no id for it.")
        return prediction_id

    def poll(self, prediction_id: str, pause: Pause) -> Prediction:
        """See `Provider.poll`."""
        if not SUBMITTED_ID.fullmatch(prediction_id):
            return UnknownPrediction()
        answer = self._api.ask(f"/v1/predictions/{prediction_id}", pause)
        if answer.unknown:
            return UnknownPrediction()
        fields = answer.fields()
        match fields.get("status") if answer.ok else answer.status:
            case "starting" | "processing":
                return RunningPrediction(_progress(fields.get("logs")))
            case "succeeded":
                return _succeeded(fields)
            case "failed":
                return FailedPrediction(self._failure(str(fields.get("error") or "no reason given")))
            case "canceled" | "aborted":
                return FailedPrediction(
                    PredictionFailed(f"Replicate stopped prediction {prediction_id} before its end.")
                )
            case status:
                raise ProviderUnavailable(f"Replicate reported a state that nobody expects: {str(status)[:50]!r}.")

    def cancel(self, prediction_id: str, pause: Pause) -> None:
        """See `Provider.cancel`."""
        self._api.stop("POST", f"/v1/predictions/{prediction_id}/cancel", pause)

    def _failure(self, said: str) -> Exception:
        said = " ".join(said.split())[:300].rstrip(".")
        if FILTERED.search(said):
            return InvalidRequest(f"The content filter of {self._path} at Replicate refused this output: {said}.")
        return PredictionFailed(f"{self._path} at Replicate failed: {said}.")


def _succeeded(fields: dict[str, Any]) -> Prediction:
    output = fields.get("output")
    url = output[0] if isinstance(output, list) and output else output
    if isinstance(url, str) and url:
        metrics = fields.get("metrics")
        seconds = metrics.get("predict_time") if isinstance(metrics, dict) else None
        return Succeeded(url, float(seconds) if isinstance(seconds, int | float) else None)
    if fields.get("data_removed"):
        return UnknownPrediction()
    return FailedPrediction(PredictionFailed("The model at Replicate succeeded without a file."))


def _progress(logs: object) -> float:
    percents = PERCENT.findall(logs) if isinstance(logs, str) else []
    return min(100, int(percents[-1])) / 100 if percents else 0.0
