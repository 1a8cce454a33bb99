"""Models that a provider runs: order each output, record its id, poll, fetch. Nothing here needs torch.

Guaranteed: an output is ordered only once if its order was answered. Its id is in the ledger before the first poll, so
nothing is lost if the worker dies or stops or cannot reach the provider for a while: the next attempt asks for that id.
It is ordered again only if the provider says that it failed, was stopped, or is unknown.

Not guaranteed: no provider accepts an idempotency key. If a worker dies between the provider's answer and the ledger's,
or if the answer to an order never arrives, the order may have been paid for, and the next attempt orders again. Within
one attempt such an order is never repeated.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gpu_worker.engines import (
    HandedOver,
    InvalidRequest,
    ModelUnavailable,
    OutputFailed,
    PredictionFailed,
    ProviderUnavailable,
    RenderCanceled,
    RenderedFile,
    Rendering,
    RenderRequest,
)
from gpu_worker.engines.hosted import fal, replicate
from gpu_worker.engines.hosted.provider import (
    Account,
    FailedPrediction,
    Pace,
    Provider,
    RunningPrediction,
    Succeeded,
    UnknownPrediction,
)
from gpu_worker.engines.hosted.provider_inputs import inputs_of, losses_of
from gpu_worker.engines.hosted.provider_outputs import OutputGone, Outputs
from gpu_worker.engines.model_source import source_of

LOG = logging.getLogger("darkroom.worker")

PAUSE_S_MAX = 1.0
"""Maximum seconds of a wait before a cancel is noticed."""

POLLS_RARER = 1.5
"""Factor by which the interval between polls grows in each round."""

REFUSALS = (InvalidRequest, ModelUnavailable, ProviderUnavailable)


def is_hosted(source: str) -> bool:
    """Whether a source of DARKROOM_MODELS, as in `replicate:owner/name`, is hosted."""
    return source.partition(":")[0] in {replicate.NAME, fal.NAME} and ":" in source


class HostedEngines:
    """The hosted models of a process, opened on first use. Thread-safe, also for rendering."""

    def __init__(self, sources: Mapping[str, str], accounts: Mapping[str, Account], pace: Pace | None = None) -> None:
        """Take model names with their sources, of which only hosted ones are used, and accounts by provider."""
        self._sources = {name: source for name, source in sources.items() if is_hosted(source)}
        self._accounts = accounts
        self._pace = pace or Pace()
        self._opened: dict[str, HostedEngine] = {}
        self._opening = threading.Lock()

    @property
    def device_name(self) -> str:
        """A constant: nothing runs on this machine."""
        return "hosted"

    def __contains__(self, model_name: str) -> bool:
        """Whether this model is hosted."""
        return model_name in self._sources

    def engine(self, model_name: str) -> "HostedEngine":
        """The engine of a model. Raises ModelUnavailable for an invalid source or a missing token."""
        source = source_of(model_name, self._sources)
        with self._opening:
            if model_name not in self._opened:
                self._opened[model_name] = self._open(*source.split(":", 1))
            return self._opened[model_name]

    def _open(self, name: str, model: str) -> "HostedEngine":
        if name not in self._accounts:
            raise ModelUnavailable(f"This worker has no account of the provider {name}.")
        account = self._accounts[name]
        adapter = replicate.Replicate if name == replicate.NAME else fal.Fal
        provider: Provider = adapter(model, account, self._pace)
        return HostedEngine(provider, Outputs(account.url, self._pace), self._pace)

    def is_loaded(self, model_name: str) -> bool:
        """True for every hosted model: there is nothing to load."""
        return model_name in self

    def ran_out(self, model_name: str) -> None:
        """Does nothing, like `release`."""

    def release(self) -> None:
        """Does nothing: a hosted model takes no memory here."""


class HostedEngine:
    """One model of one provider."""

    def __init__(self, provider: Provider, outputs: Outputs, pace: Pace) -> None:
        self._provider = provider
        self._outputs = outputs
        self._pace = pace

    @property
    def model_revision(self) -> str:
        """The provider's name of the model. The model behind it may change, unless the name includes a version."""
        return f"{self._provider.name}:{self._provider.model}"

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[Rendering]:
        """See `Engine`. One prediction for each seed, all at the same time; each is yielded when it is finished."""
        return _Work(self._provider, self._outputs, self._pace, request, on_step, canceled).run()


@dataclass(slots=True)
class _Order:
    """An output that the provider is making. `resumed`: an earlier attempt ordered it."""

    position: int
    prediction_id: str
    resumed: bool
    began_s: float
    progress: float = 0.0


class _Work:
    """One request in progress."""

    def __init__(
        self,
        provider: Provider,
        outputs: Outputs,
        pace: Pace,
        request: RenderRequest,
        on_step: Callable[[int, int], None],
        canceled: Callable[[], bool],
    ) -> None:
        self._provider = provider
        self._outputs = outputs
        self._pace = pace
        self._request = request
        self._on_step = on_step
        self._canceled = canceled
        self._orders: dict[int, _Order] = {}
        self._refusal: Exception | None = None
        self._ended = 0
        self._source = f"{provider.name}:{provider.model}"

    def run(self) -> Iterator[Rendering]:
        """Order or resume every output, then poll until none is left. A refused order is raised at the end."""
        yield from losses_of(self._source, self._request)
        for position, prediction_id in sorted(self._request.provider_ids.items()):
            self._orders[position] = _Order(position, prediction_id, resumed=True, began_s=time.monotonic())
        for position in range(len(self._request.seeds)):
            if position not in self._orders:
                yield from self._order(position)
        poll_s = self._pace.poll_s_min
        while self._orders:
            self._pause(poll_s)
            poll_s = min(self._pace.poll_s_max, poll_s * POLLS_RARER)
            for order in list(self._orders.values()):
                yield from self._look_at(order)
                self._tell_progress()
        if self._refusal is not None:
            raise self._refusal

    def _order(self, position: int) -> Iterator[Rendering]:
        """Order an output. After a refusal no more are ordered: outputs in progress are paid for and finish first."""
        if self._refusal is not None:
            return
        self._pause(0.0)
        try:
            inputs = inputs_of(self._source, self._request, position)
            prediction_id = self._provider.submit(inputs, self._pause)
        except REFUSALS as refusal:
            self._refusal = refusal
            return
        self._orders[position] = _Order(position, prediction_id, resumed=False, began_s=time.monotonic())
        try:
            yield HandedOver(position, self._provider.name, prediction_id)
        except GeneratorExit:  # the ledger refused the note: no later attempt will ask for this output
            self._drop(self._orders[position])
            raise

    def _look_at(self, order: _Order) -> Iterator[Rendering]:
        match self._provider.poll(order.prediction_id, self._pause):
            case RunningPrediction(progress=progress):
                order.progress = max(order.progress, progress)
                if time.monotonic() - order.began_s > self._pace.work_s_max:
                    self._drop(order)
                    late = f"The provider had no output within {self._pace.work_s_max:g} s; the order is canceled."
                    yield self._failed(order, PredictionFailed(late))
            case Succeeded(url=url, seconds=seconds):
                yield from self._fetch(order, url, seconds)
            case FailedPrediction(error=error):
                # A content filter refuses the same order again; other failures of an earlier attempt's order are
                # retried.
                yield from self._lost(order, error, again=not isinstance(error, InvalidRequest))
            case UnknownPrediction():
                gone = f"The provider has no prediction {order.prediction_id}, or has deleted its output."
                yield from self._lost(order, PredictionFailed(gone), again=True)

    def _fetch(self, order: _Order, url: str, seconds: float | None) -> Iterator[Rendering]:
        try:
            content = self._outputs.fetch(url, self._pause)
        except OutputGone as error:
            yield from self._lost(order, PredictionFailed(str(error)), again=True)
            return
        except (PredictionFailed, ProviderUnavailable) as error:
            yield self._failed(order, error)
            return
        self._end(order)
        taken_s = time.monotonic() - order.began_s if seconds is None else seconds
        yield RenderedFile(order.position, content, round(taken_s * 1000))

    def _lost(self, order: _Order, error: Exception, *, again: bool) -> Iterator[Rendering]:
        if order.resumed and again:
            LOG.info("output %d is ordered again: %s", order.position, error)
            del self._orders[order.position]
            yield from self._order(order.position)
        else:
            yield self._failed(order, error)

    def _failed(self, order: _Order, error: Exception) -> OutputFailed:
        self._end(order)
        return OutputFailed(order.position, error)

    def _end(self, order: _Order) -> None:
        del self._orders[order.position]
        self._ended += 1

    def _tell_progress(self) -> None:
        """Counted in the steps that local models would take."""
        steps = max(1, self._request.steps)
        in_work = sum(order.progress for order in self._orders.values())
        self._on_step(int((self._ended + in_work) * steps), len(self._request.seeds) * steps)

    def _pause(self, seconds: float) -> None:
        """Wait; if the job is canceled, cancel everything in progress. Raises RenderCanceled."""
        until_s = time.monotonic() + seconds
        while True:
            if self._canceled():
                for order in self._orders.values():
                    self._drop(order)
                raise RenderCanceled("The job was canceled; so are its orders at the provider.")
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, PAUSE_S_MAX))

    def _drop(self, order: _Order) -> None:
        """Cancel it at the provider, best effort."""
        try:
            self._provider.cancel(order.prediction_id, time.sleep)
        except ProviderUnavailable as error:
            LOG.warning("prediction %s could not be canceled: %s", order.prediction_id, error)
