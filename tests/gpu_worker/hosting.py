"""A local server that speaks the documented protocols of Replicate and fal, and does what a test plans for it."""

import io
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from PIL import Image

from tests.gpu_worker.peers import PATIENCE_S

TOKEN = "r8_s3cret-token"


@dataclass
class Plan:
    """What becomes of one prediction: in the queue for a poll, at work for some, then its end.

    `end` is `succeeded`, `failed`, `canceled`, `filtered`, `broken`, `removed`, or `never`.
    """

    polls: int = 0
    end: str = "succeeded"
    reason: str = "CUDA went away"
    logs: str = ""


@dataclass
class Fault:
    """An answer in place of the right one, given once. Without a status the connection ends without an answer."""

    method: str
    path: str
    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    held: bool = False
    """It comes only when the test is over."""


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class Prediction:
    """What was ordered, and how often it was asked for."""

    id: str
    inputs: Mapping[str, Any]
    plan: Plan
    asked: int = 0


class Hosting:
    """Both providers on one port; a context manager."""

    def __init__(self) -> None:
        self.plans: deque[Plan] = deque()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.predictions: dict[str, Prediction] = {}
        self.file: Callable[[Prediction], bytes] = lambda prediction: picture(int(prediction.inputs["seed"]))
        self.output_url: Callable[[str], str] = lambda prediction_id: f"{self.url}/files/{prediction_id}.png"
        self.redirects: dict[str, str] = {}
        self._news = threading.Condition()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False  # closing waits for them: none outlives its test
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)

    def orders(self) -> list[Seen]:
        """What was posted to be made."""
        return [seen for seen in self.seen if seen.method == "POST" and not seen.path.endswith("/cancel") and seen.body]

    def cancels(self) -> list[str]:
        """The predictions that somebody asked to cancel."""
        return [seen.path.split("/")[-2] for seen in self.seen if seen.path.endswith("/cancel")]

    def polls(self, prediction_id: str) -> int:
        """How often its state was asked for."""
        return sum(seen.method == "GET" and prediction_id in seen.path for seen in self.seen)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for it, as requests come in."""
        with self._news:
            assert self._news.wait_for(holds, PATIENCE_S)

    def known(self, prediction_id: str, plan: Plan, **inputs: Any) -> None:
        """Something that was ordered before."""
        self.predictions[prediction_id] = Prediction(prediction_id, {"seed": 7, **inputs}, plan)

    def answer(self, seen: Seen) -> tuple[int, Mapping[str, str], bytes] | None:
        """Status, headers and body; None ends the connection."""
        with self._news:
            fault = next((f for f in self.faults if f.method == seen.method and f.path in seen.path), None)
            if fault is not None:
                self.faults.remove(fault)
            self.seen.append(seen)
            self._news.notify_all()
        if fault is not None:
            if fault.held:
                self._over.wait(PATIENCE_S)
            return None if fault.status is None else (fault.status, fault.headers, json.dumps(fault.body).encode())
        if seen.path in self.redirects:
            return 302, {"Location": self.redirects[seen.path]}, b""
        if found := re.fullmatch(r"/files/([\w-]+)\.png", seen.path):
            return 200, {}, self.file(self.predictions[found[1]])
        status, fields, headers = self._replicate(seen) if seen.path.startswith("/v1/") else self._fal(seen)
        return status, headers, json.dumps(fields).encode()

    def _ordered(self, inputs: Mapping[str, Any]) -> Prediction:
        with self._news:
            prediction_id = f"p{len(self.predictions):03}"
            plan = self.plans.popleft() if self.plans else Plan()
            self.predictions[prediction_id] = Prediction(prediction_id, inputs, plan)
            return self.predictions[prediction_id]

    def _replicate(self, seen: Seen) -> tuple[int, Mapping[str, Any], Mapping[str, str]]:
        if seen.token != f"Bearer {TOKEN}":
            return 401, {"title": "Unauthenticated", "detail": f"Not a token: {seen.token}", "status": 401}, {}
        if seen.method == "POST" and seen.path.endswith("/predictions"):
            return 201, self._of_replicate(self._ordered(seen.body["input"]), "starting"), {}
        prediction = self.predictions.get(seen.path.split("/")[3])
        if prediction is None:
            return 404, {"detail": "The requested resource could not be found.", "status": 404}, {}
        if seen.path.endswith("/cancel"):
            prediction.plan = Plan(end="canceled")
            return 200, self._of_replicate(prediction, "canceled"), {}
        prediction.asked += 1
        if prediction.asked <= prediction.plan.polls or prediction.plan.end == "never":
            return 200, self._of_replicate(prediction, "starting" if prediction.asked == 1 else "processing"), {}
        status = {"filtered": "failed", "broken": "failed", "removed": "succeeded"}.get(
            prediction.plan.end, prediction.plan.end
        )
        return 200, self._of_replicate(prediction, status), {}

    def _of_replicate(self, prediction: Prediction, status: str) -> Mapping[str, Any]:
        end = prediction.plan.end
        ended = status == "succeeded"
        return {
            "id": prediction.id,
            "status": status,
            "input": prediction.inputs,
            "logs": prediction.plan.logs if prediction.asked else "",
            "output": [self.output_url(prediction.id)] if ended and end != "removed" else None,
            "data_removed": end == "removed",
            "error": {"filtered": "NSFW content detected."}.get(end, prediction.plan.reason)
            if status == "failed"
            else None,
            "metrics": {"predict_time": 1.25} if ended else {},
            "urls": {"get": f"{self.url}/v1/predictions/{prediction.id}"},
        }

    def _fal(self, seen: Seen) -> tuple[int, Mapping[str, Any], Mapping[str, str]]:
        if seen.token != f"Key {TOKEN}":
            return 401, {"detail": f"Cannot access with {seen.token}"}, {}
        if seen.method == "POST":
            made = self._ordered(seen.body)
            return 200, {"request_id": made.id, "status": "IN_QUEUE", "queue_position": 0}, {}
        found = re.fullmatch(r"/fal-ai/flux/requests/([\w-]+)(/status|/cancel)?", seen.path)
        prediction = self.predictions.get(found[1]) if found else None
        if found is None or prediction is None:
            return 404, {"detail": "Request not found"}, {}
        if found[2] == "/cancel":
            prediction.plan = Plan(end="canceled")
            return 202, {"status": "CANCELLATION_REQUESTED"}, {}
        if found[2] == "/status":
            prediction.asked += 1
            if prediction.asked <= prediction.plan.polls or prediction.plan.end == "never":
                queued = {"status": "IN_QUEUE", "queue_position": 1}
                return 202, queued if prediction.asked == 1 else {"status": "IN_PROGRESS"}, {}
            return 200, {"status": "COMPLETED", "metrics": {"inference_time": 1.25}}, {}
        return self._result_of_fal(prediction)

    def _result_of_fal(self, prediction: Prediction) -> tuple[int, Mapping[str, Any], Mapping[str, str]]:
        url = self.output_url(prediction.id)
        match prediction.plan.end:
            case "filtered":
                detail = [{"loc": ["body", "prompt"], "msg": "Content flagged", "type": "content_policy_violation"}]
                return 422, {"detail": detail}, {"X-Fal-Retryable": "false"}
            case "failed":
                detail = [{"loc": ["body"], "msg": prediction.plan.reason, "type": "internal_server_error"}]
                return 500, {"detail": detail}, {"X-Fal-Retryable": "false"}
            case "broken":
                fields = {"detail": "Runner disconnected", "error_type": "runner_disconnected"}
                return 503, fields, {"X-Fal-Error-Type": "runner_disconnected"}
            case "canceled":
                return 499, {"detail": "Request was cancelled by the client"}, {"X-Fal-Error-Type": "client_cancelled"}
            case "removed":
                return 404, {"detail": "Not found"}, {}
            case _:
                return 200, {"images": [{"url": url, "content_type": "image/png"}], "has_nsfw_concepts": [False]}, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hosting = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = hosting.answer(Seen(self.command, self.path, headers, body))
                if answer is None:
                    self.close_connection = True
                    return
                status, headers_back, content = answer
                self.send_response(status)
                for name, value in {**headers_back, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815 - names of http.server

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    """A client that has read enough, or was killed: both are what tests do."""

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nobody reads it."""

        return Handler


def picture(seed: int) -> bytes:
    """A small PNG; another seed, another colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (seed % 256, seed // 256 % 256, 99)).save(file, "PNG")
    return file.getvalue()
