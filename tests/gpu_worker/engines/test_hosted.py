"""Models at providers: each output is ordered once, its id learns before it is asked for, and tokens stay home."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

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
from gpu_worker.engines.hosted.engine import HostedEngine, HostedEngines
from gpu_worker.engines.hosted.provider import Account, Pace
from tests.gpu_worker.hosting import TOKEN, Fault, Hosting, Plan, picture

SOURCES = {"replicate": "replicate:black-forest-labs/flux-schnell", "fal": "fal:fal-ai/flux/schnell"}
FAST: dict[str, Any] = {
    "poll_s_min": 0.01,
    "poll_s_max": 0.02,
    "retry_s_first": 0.01,
    "retry_s_max": 0.02,
    "answer_s_max": 5.0,
}


@pytest.fixture
def hosting() -> Iterator[Hosting]:
    with Hosting() as hosting:
        yield hosting


@pytest.fixture(params=["replicate", "fal"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(hosting: Hosting, provider: str) -> HostedEngine:
    return engine_at(hosting, provider)


def engine_at(
    hosting: Hosting, provider: str, token: str = TOKEN, source: str | None = None, **pace: Any
) -> HostedEngine:
    accounts = {name: Account(hosting.url, SecretStr(token)) for name in SOURCES}
    engines = HostedEngines({"flux": source or SOURCES[provider]}, accounts, Pace(**{**FAST, **pace}))
    return engines.engine("flux")


def asked(*seeds: int, **changed: Any) -> RenderRequest:
    parts: dict[str, Any] = {"prompt": "a red circle", "negative_prompt": None, "steps": 4, "guidance": 3.5}
    parts |= {"width": 1024, "height": 1024, "seeds": seeds or (7,)}
    return RenderRequest(**parts | changed)


def rendered(
    engine: HostedEngine, request: RenderRequest, canceled: Callable[[], bool] = lambda: False
) -> list[Rendering]:
    return list(engine.render(request, on_step=lambda _done, _total: None, canceled=canceled))


def files(renderings: list[Rendering]) -> dict[int, bytes]:
    return {one.position: one.content for one in renderings if isinstance(one, RenderedFile)}


def failures(renderings: list[Rendering]) -> dict[int, Exception]:
    return {one.position: one.error for one in renderings if isinstance(one, OutputFailed)}


def test_each_seed_is_one_order_whose_id_is_reported_before_the_first_poll(
    hosting: Hosting, engine: HostedEngine, provider: str
) -> None:
    steps: list[tuple[int, int]] = []
    renderings = []
    rendering = engine.render(asked(7, 8, 9), on_step=lambda *step: steps.append(step), canceled=lambda: False)
    for one in rendering:
        if isinstance(one, HandedOver):
            assert one.provider == provider
            assert hosting.polls(one.provider_id) == 0
        renderings.append(one)
    assert files(renderings) == {n: picture(7 + n) for n in range(3)}
    assert [one.render_ms for one in renderings if isinstance(one, RenderedFile)] == [1250] * 3
    orders = [order.body["input"] if provider == "replicate" else order.body for order in hosting.orders()]
    assert [(order["prompt"], order["seed"], order["num_inference_steps"]) for order in orders] == [
        ("a red circle", 7 + n, 4) for n in range(3)
    ]
    assert steps[-1] == (12, 12)


def test_paths_and_tokens_are_the_documented_ones(hosting: Hosting, engine: HostedEngine, provider: str) -> None:
    rendered(engine, asked())
    seen = [(one.method, one.path, one.token) for one in hosting.seen]
    if provider == "replicate":
        assert seen == [
            ("POST", "/v1/models/black-forest-labs/flux-schnell/predictions", f"Bearer {TOKEN}"),
            ("GET", "/v1/predictions/p000", f"Bearer {TOKEN}"),
            ("GET", "/files/p000.png", None),
        ]
    else:
        assert seen == [
            ("POST", "/fal-ai/flux/schnell", f"Key {TOKEN}"),
            ("GET", "/fal-ai/flux/requests/p000/status", f"Key {TOKEN}"),
            ("GET", "/fal-ai/flux/requests/p000", f"Key {TOKEN}"),
            ("GET", "/files/p000.png", None),
        ]


def test_a_version_of_replicate_is_ordered_by_its_hash(hosting: Hosting) -> None:
    version = "ab" * 32
    engine = engine_at(hosting, "replicate", source=f"replicate:stability-ai/sdxl:{version}")
    assert files(rendered(engine, asked())) == {0: picture(7)}
    assert hosting.orders()[0].path == "/v1/predictions"
    assert hosting.orders()[0].body["version"] == version
    assert engine.model_revision.endswith(version)


def test_it_waits_through_queue_and_work(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.plans.append(Plan(polls=4))
    assert files(rendered(engine, asked())) == {0: picture(7)}
    assert hosting.polls("p000") >= 5


def test_progress_of_the_provider_is_reported(hosting: Hosting) -> None:
    hosting.plans.append(Plan(polls=3, logs="  0%|          | 0/4\n 50%|#####     | 2/4"))
    steps: list[tuple[int, int]] = []
    engine = engine_at(hosting, "replicate")
    for _ in engine.render(asked(), on_step=lambda *step: steps.append(step), canceled=lambda: False):
        pass
    assert (2, 4) in steps
    assert steps == sorted(steps)
    assert steps[-1] == (4, 4)


@pytest.mark.parametrize(("end", "error"), [("failed", PredictionFailed), ("filtered", InvalidRequest)])
def test_one_output_that_fails_leaves_its_siblings(
    hosting: Hosting, engine: HostedEngine, end: str, error: type[Exception]
) -> None:
    hosting.plans.extend([Plan(), Plan(polls=1, end=end), Plan(polls=2)])
    renderings = rendered(engine, asked(7, 8, 9))
    assert sorted(files(renderings)) == [0, 2]
    assert {n: type(why) for n, why in failures(renderings).items()} == {1: error}
    assert len(hosting.orders()) == 3


def test_what_fal_could_not_run_is_left_to_the_next_attempt(hosting: Hosting) -> None:
    hosting.plans.append(Plan(end="broken"))
    renderings = rendered(engine_at(hosting, "fal"), asked())
    assert {n: type(why) for n, why in failures(renderings).items()} == {0: ProviderUnavailable}
    assert sum(seen.path.endswith("/requests/p000") for seen in hosting.seen) == 1


def test_a_cancel_while_it_polls_cancels_at_the_provider(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.plans.extend([Plan(end="never"), Plan(end="never")])
    with pytest.raises(RenderCanceled):
        rendered(engine, asked(7, 8), canceled=lambda: hosting.polls("p001") > 1)
    assert sorted(hosting.cancels()) == ["p000", "p001"]


def test_a_cancel_is_noticed_within_a_second_of_a_long_wait(hosting: Hosting, provider: str) -> None:
    hosting.plans.append(Plan(end="never"))
    engine = engine_at(hosting, provider, poll_s_min=60.0, poll_s_max=60.0)
    began_s = time.monotonic()
    with pytest.raises(RenderCanceled):
        rendered(engine, asked(), canceled=lambda: time.monotonic() - began_s > 0.2)
    assert time.monotonic() - began_s < 10
    assert hosting.cancels() == ["p000"]


def test_a_job_that_goes_on_elsewhere_is_not_canceled_at_the_provider(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.plans.append(Plan(end="never"))

    def canceled() -> bool:
        if hosting.polls("p000"):
            raise RenderCanceled("The job goes on in another attempt.")
        return False

    with pytest.raises(RenderCanceled):
        rendered(engine, asked(), canceled)
    assert hosting.cancels() == []


def test_an_order_that_the_ledger_does_not_take_is_canceled(hosting: Hosting, engine: HostedEngine) -> None:
    rendering = engine.render(asked(7, 8), on_step=lambda _done, _total: None, canceled=lambda: False)
    assert isinstance(next(rendering), HandedOver)
    rendering.close()  # type: ignore[attr-defined]
    assert hosting.cancels() == ["p000"]
    assert len(hosting.orders()) == 1


def test_a_prediction_without_an_end_is_canceled_and_fails(hosting: Hosting, provider: str) -> None:
    hosting.plans.append(Plan(end="never"))
    renderings = rendered(engine_at(hosting, provider, work_s_max=0.1), asked())
    assert "no output within 0.1 s" in str(failures(renderings)[0])
    assert hosting.cancels() == ["p000"]


def test_too_many_requests_are_repeated_when_the_provider_says(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.faults.append(Fault("POST", "", 429, {"Retry-After": "1"}, {"detail": "Request was throttled."}))
    began_s = time.monotonic()
    assert files(rendered(engine, asked())) == {0: picture(7)}
    assert time.monotonic() - began_s >= 1
    assert len(hosting.orders()) == 2


def test_a_provider_that_wants_a_long_rest_is_left_to_a_later_attempt(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.faults.append(Fault("POST", "", 429, {"Retry-After": "600"}, {"detail": "Request was throttled."}))
    with pytest.raises(ProviderUnavailable, match="Request was throttled"):
        rendered(engine, asked())
    assert len(hosting.orders()) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, None])
def test_polls_and_downloads_are_repeated(hosting: Hosting, engine: HostedEngine, status: int | None) -> None:
    hosting.faults += [Fault("GET", "p000", status), Fault("GET", "p000", status), Fault("GET", "/files/", status)]
    assert files(rendered(engine, asked())) == {0: picture(7)}
    assert hosting.faults == []


@pytest.mark.parametrize("status", [500, 502, 503, 504, None])
def test_an_order_of_unknown_fate_is_not_repeated(hosting: Hosting, engine: HostedEngine, status: int | None) -> None:
    hosting.faults.append(Fault("POST", "", status))
    with pytest.raises(ProviderUnavailable):
        rendered(engine, asked(7, 8))
    assert len(hosting.orders()) == 1


def test_an_order_that_is_not_answered_in_time_is_not_repeated(hosting: Hosting, provider: str) -> None:
    hosting.faults.append(Fault("POST", "", 201, held=True))
    with pytest.raises(ProviderUnavailable, match="it may have the order nevertheless"):
        rendered(engine_at(hosting, provider, answer_s_max=0.3), asked())
    assert len(hosting.orders()) == 1


def test_an_order_that_was_surely_refused_is_repeated(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.faults.append(Fault("POST", "", 503, {"Retry-After": "0"}))
    assert files(rendered(engine, asked())) == {0: picture(7)}


def test_tries_are_bounded(hosting: Hosting, provider: str) -> None:
    hosting.faults += [Fault("GET", "p000", 500) for _ in range(4)]
    with pytest.raises(ProviderUnavailable, match=re.escape("status 500 (tried 3 x)")):
        rendered(engine_at(hosting, provider, tries_max=3), asked())
    assert len(hosting.faults) == 1


def test_nobody_at_the_address_is_a_provider_that_is_away(provider: str) -> None:
    with Hosting() as gone:
        pass
    with pytest.raises(ProviderUnavailable, match="no connection"):
        rendered(engine_at(gone, provider, tries_max=2), asked())


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, InvalidRequest, "refuses the request: num_inference_steps is too many"),
        (402, ModelUnavailable, "wants to be paid first"),
        (403, ModelUnavailable, "refuses the token"),
        (404, ModelUnavailable, "has no such model"),
        (422, InvalidRequest, "refuses the request"),
    ],
)
def test_a_refused_order_says_what_is_wrong(
    hosting: Hosting, engine: HostedEngine, status: int, error: type[Exception], words: str
) -> None:
    hosting.faults.append(Fault("POST", "", status, {}, {"detail": "num_inference_steps is too many"}))
    with pytest.raises(error, match=words):
        rendered(engine, asked(7, 8))
    assert len(hosting.orders()) == 1


def test_what_is_in_work_is_fetched_before_a_refusal_is_raised(hosting: Hosting, engine: HostedEngine) -> None:
    rendering = engine.render(asked(7, 8, 9), on_step=lambda _done, _total: None, canceled=lambda: False)
    renderings = [next(rendering)]
    hosting.faults.append(Fault("POST", "", 402))
    with pytest.raises(ModelUnavailable, match="paid"):
        renderings.extend(rendering)
    assert len(hosting.orders()) == 2
    assert files(renderings) == {0: picture(7)}


def test_a_token_that_is_refused_is_not_repeated_in_the_error(hosting: Hosting, provider: str) -> None:
    wrong = "wr0ng-s3cret"
    with pytest.raises(ModelUnavailable, match=r"REPLICATE_API_TOKEN|FAL_KEY") as refused:
        rendered(engine_at(hosting, provider, wrong), asked())
    assert wrong not in str(refused.value)
    assert "***" in str(refused.value)


@pytest.mark.parametrize("token", ["", "  \n", "with blanks in it", "naïve"])
def test_a_token_that_is_invalid_is_named_by_its_variable(hosting: Hosting, provider: str, token: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"(REPLICATE_API_TOKEN|FAL_KEY) (is not set|holds something)"):
        engine_at(hosting, provider, token)


@pytest.mark.parametrize("source", ["replicate:flux", "replicate:a/b:c", "replicate:../x", "fal:flux", "fal:a/b?c"])
def test_a_source_that_is_invalid_says_how_one_looks(hosting: Hosting, source: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"is not (replicate:OWNER/NAME|fal:OWNER/APP)"):
        engine_at(hosting, "", source=source)


def test_an_output_on_another_host_gets_no_token_nor_does_a_redirect(hosting: Hosting, engine: HostedEngine) -> None:
    with Hosting() as elsewhere:
        elsewhere.known("p000", Plan())
        hosting.redirects["/files/p000.png"] = f"{elsewhere.url}/files/p000.png"
        assert files(rendered(engine, asked())) == {0: picture(7)}
        assert [(seen.path, seen.token) for seen in elsewhere.seen] == [("/files/p000.png", None)]
    assert [seen.token for seen in hosting.seen if seen.path.startswith("/files/")] == [None]


@pytest.mark.parametrize("url", ["http://localhost/x.png", "file:///etc/passwd", "ftp://host/x"])
@pytest.mark.parametrize("redirected", [False, True])
def test_an_output_is_fetched_over_https_alone(
    hosting: Hosting, engine: HostedEngine, url: str, redirected: bool
) -> None:
    if redirected:
        hosting.redirects["/files/p000.png"] = url
    else:
        hosting.output_url = lambda _id: url
    assert isinstance(failures(rendered(engine, asked()))[0], PredictionFailed)
    assert [seen.path for seen in hosting.seen if "/files/" in seen.path] == ["/files/p000.png"] * redirected


@pytest.mark.parametrize("url", ["x", "//", "https://", "https://host:port/", "data:image/png;base64,AAAA"])
def test_an_address_that_is_invalid_fails_its_output(hosting: Hosting, engine: HostedEngine, url: str) -> None:
    hosting.output_url = lambda _id: url
    assert isinstance(failures(rendered(engine, asked()))[0], PredictionFailed)


def test_an_output_that_cannot_be_fetched_now_leaves_its_siblings(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.faults += [Fault("GET", "/files/p000", 503) for _ in range(5)]
    renderings = rendered(engine, asked(7, 8))
    assert {n: type(why) for n, why in failures(renderings).items()} == {0: ProviderUnavailable}
    assert files(renderings) == {1: picture(8)}


def test_an_output_that_is_too_large_is_not_taken(hosting: Hosting, provider: str) -> None:
    hosting.plans.extend([Plan(), Plan()])
    hosting.file = lambda prediction: b"x" * (2_000_000 if prediction.id == "p000" else 10)
    renderings = rendered(engine_at(hosting, provider, output_bytes_max=1_000_000), asked(7, 8))
    assert "more than 1000000 bytes" in str(failures(renderings)[0])
    assert files(renderings) == {1: b"x" * 10}
    assert Pace().output_bytes_max == 256 * 1024 * 1024


def test_an_order_of_an_earlier_attempt_is_asked_for_and_not_paid_again(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.known("old", Plan(polls=2), seed=8)
    renderings = rendered(engine, asked(7, 8, provider_ids={1: "old"}))
    assert files(renderings) == {0: picture(7), 1: picture(8)}
    assert [one.position for one in renderings if isinstance(one, HandedOver)] == [0]
    assert len(hosting.orders()) == 1


@pytest.mark.parametrize("end", ["failed", "broken", "canceled", "removed"])
def test_an_order_of_an_earlier_attempt_that_ended_badly_is_made_again(
    hosting: Hosting, engine: HostedEngine, end: str
) -> None:
    hosting.known("old", Plan(end=end))
    renderings = rendered(engine, asked(provider_ids={0: "old"}))
    assert files(renderings) == {0: picture(7)}
    assert [one.position for one in renderings if isinstance(one, HandedOver)] == [0]


@pytest.mark.parametrize("unknown", ["never-was", "../../account", ""])
def test_an_order_that_the_provider_does_not_know_is_made_again(
    hosting: Hosting, engine: HostedEngine, unknown: str
) -> None:
    assert files(rendered(engine, asked(provider_ids={0: unknown}))) == {0: picture(7)}
    assert not any("account" in seen.path for seen in hosting.seen)


@pytest.mark.parametrize("status", [302, 405, 409])
def test_an_answer_that_nobody_expects_orders_nothing_again(
    hosting: Hosting, engine: HostedEngine, status: int
) -> None:
    hosting.known("old", Plan())
    hosting.faults.append(Fault("GET", "old", status, {"Location": "https://else.where/"}))
    with pytest.raises(ProviderUnavailable, match="nobody expects"):
        rendered(engine, asked(provider_ids={0: "old"}))
    assert hosting.orders() == []


def test_what_a_filter_refused_is_not_ordered_again(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.known("old", Plan(end="filtered"))
    assert isinstance(failures(rendered(engine, asked(provider_ids={0: "old"})))[0], InvalidRequest)
    assert hosting.orders() == []


def test_an_output_that_has_been_deleted_is_ordered_again(hosting: Hosting, engine: HostedEngine) -> None:
    hosting.known("old", Plan())
    hosting.faults.append(Fault("GET", "/files/old", 404))
    assert files(rendered(engine, asked(provider_ids={0: "old"}))) == {0: picture(7)}
    assert len(hosting.orders()) == 1


def test_nothing_of_it_shows_the_token(hosting: Hosting, engine: HostedEngine, tmp_path: Path) -> None:
    parts: list[object] = [engine, Account(hosting.url, SecretStr(TOKEN))]
    for part in parts:
        assert TOKEN not in repr(part) + repr(getattr(part, "__dict__", ""))
    api = engine._provider._api  # type: ignore[attr-defined]
    assert TOKEN not in repr(vars(api)) + repr(api._client.headers)
