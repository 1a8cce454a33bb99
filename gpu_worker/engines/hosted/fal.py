"""fal's queue API (https://docs.fal.ai/model-endpoints/queue) as a provider of hosted models.

An order is `POST /OWNER/APP/ENDPOINT`; state, result and cancel are under `/OWNER/APP/requests/ID`, without the
endpoint. fal recommends the URLs in its answer. They are built here instead, because a later attempt knows only the id,
and because the token must not be sent to a URL from an answer. The queue accepts any order: a model's refusal appears
in the result.
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
from gpu_worker.engines.hosted.provider_api import Answer, Api

NAME: Final = "fal"
URL: Final = "https://queue.fal.run"
TOKEN_VARIABLE: Final = "FAL_KEY"  # noqa: S105 - its name

MODEL = re.compile(r"(?P<app>((workflows|comfy)/)?\w[\w.-]*/\w[\w.-]*)(/\w[\w.-]*)*", re.ASCII)
CLIENT_CANCELED = 499


class Fal:
    """A model, `owner/app` or `owner/app/endpoint`."""

    name = NAME

    def __init__(self, model: str, account: Account, pace: Pace) -> None:
        """Raises ModelUnavailable for an invalid name, and without a key."""
        found = MODEL.fullmatch(model)
        if found is None:
            raise ModelUnavailable(f"fal:{model} is not fal:OWNER/APP or fal:OWNER/APP/ENDPOINT.")
        self.model = model
        self._app = found["app"]
        self._api = Api("fal", TOKEN_VARIABLE, "Key", account, pace)

    def submit(self, inputs: Inputs, pause: Pause) -> str:
        """See `Provider.submit`."""
        request_id = str(self._api.order(f"/{self.model}", inputs, pause).fields().get("request_id", ""))
        if not SUBMITTED_ID.fullmatch(request_id):
            raise ProviderUnavailable("fal took the order and gave no id for it.")
        return request_id

    def poll(self, prediction_id: str, pause: Pause) -> Prediction:
        """See `Provider.poll`."""
        if not SUBMITTED_ID.fullmatch(prediction_id):
            return UnknownPrediction()
        path = f"/{self._app}/requests/{prediction_id}"
        answer = self._api.ask(f"{path}/status", pause)
        if answer.unknown:
            return UnknownPrediction()
        fields = answer.fields()
        match fields.get("status") if answer.ok else answer.status:
            case "IN_QUEUE" | "IN_PROGRESS":
                return RunningPrediction(0.0)
            case "COMPLETED":
                return self._ended(self._api.ask(path, pause, final=_is_of_the_model), fields.get("metrics"))
            case status:
                raise ProviderUnavailable(f"fal reported a state that nobody expects: {str(status)[:50]!r}.")

    def cancel(self, prediction_id: str, pause: Pause) -> None:
        """See `Provider.cancel`."""
        self._api.stop("PUT", f"/{self._app}/requests/{prediction_id}/cancel", pause)

    def _ended(self, answer: Answer, metrics: object) -> Prediction:
        fields = answer.fields()
        if answer.ok:
            seconds = metrics.get("inference_time") if isinstance(metrics, dict) else None
            return self._succeeded(fields, float(seconds) if isinstance(seconds, int | float) else None)
        if answer.status in {404, 410}:
            return UnknownPrediction()
        said = self._api.words(answer)
        if answer.status == CLIENT_CANCELED:
            return FailedPrediction(PredictionFailed(f"fal stopped the request before its end: {said}."))
        if answer.status < 500:
            return FailedPrediction(InvalidRequest(f"{self.model} at fal refuses the request: {said}."))
        if answer.headers.get("x-fal-retryable", "true").lower() == "false":
            return FailedPrediction(PredictionFailed(f"{self.model} at fal failed: {said}."))
        # fal has tried it up to ten times and does not bill it: another attempt of the job orders it again.
        return FailedPrediction(ProviderUnavailable(f"fal could not run {self.model}: {said}."))

    def _succeeded(self, fields: dict[str, Any], seconds: float | None) -> Prediction:
        filtered = fields.get("has_nsfw_concepts")
        if isinstance(filtered, list) and filtered and filtered[0] is True:  # then the image is black
            return FailedPrediction(InvalidRequest(f"The content filter of {self.model} at fal refused this output."))
        images = fields.get("images")
        found = [fields.get("video"), *(images if isinstance(images, list) else []), fields.get("image")]
        for file in found:
            if isinstance(file, dict) and isinstance(file.get("url"), str):
                return Succeeded(file["url"], seconds)
        return FailedPrediction(PredictionFailed(f"{self.model} at fal succeeded without a file."))


def _is_of_the_model(answer: Answer) -> bool:
    """Whether an error is the result of the model and not of the queue: asking again gives the same."""
    return "x-fal-error-type" in answer.headers or "x-fal-retryable" in answer.headers
