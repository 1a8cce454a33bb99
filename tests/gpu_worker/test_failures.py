"""What the ledger keeps of an error: enough to repair it, bounded, and never a secret."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.events import ErrorClass, Failure
from domain.recipes.recipe import Kind
from gpu_worker.engines import InvalidRequest, ModelUnavailable, OutOfMemory, UnusableOutput
from gpu_worker.failures import MESSAGE_CHARS_MAX, STACK_CHARS_MAX, failure_of
from gpu_worker.outputs.encode import BrokenFile, read
from services.files.blobs import BlobStoreUnavailable
from services.observability.redaction import redacted

LOG = logging.LoggerAdapter(logging.getLogger("tests.failures"), {})

REPLICATE = "r8_4fJw0aXn2LkQ9ZbT"
OTHER_SECRETS = ("hunter2-and-more", "p@ss/w:rd!", "sk-live-51xyz", "eyJhbGciOi.Jz.dW")

LEAKS: dict[str, str] = {
    "a postgres DSN": "cannot connect to postgresql://darkroom:hunter2-and-more@db:5432/darkroom",
    "a libpq string": "bad option in host=db user=darkroom password=hunter2-and-more dbname=x",
    "a quoted libpq string": "bad option in host=db password = 'hunter2-and-more x'",
    "a URL with a token": "404 for https://host/file.png?width=8&token=sk-live-51xyz&seed=1",
    "a signed URL": "403 for https://s3/x.png?X-Amz-Credential=sk-live-51xyz/s3&X-Amz-Signature=sk-live-51xyz",
    "a bearer header": "401: {'Authorization': 'Bearer eyJhbGciOi.Jz.dW', 'Accept': '*/*'}",
    "a plain bearer": "sent with bearer eyJhbGciOi.Jz.dW to the host",
    "a fal header": "headers Authorization: Key eyJhbGciOi.Jz.dW refused",
    "JSON": 'the host says {"api_key": "sk-live-51xyz", "reason": "no"}',
    "the value of a variable": f"the host refused {REPLICATE} as it is",
    "the value of a variable in a URL": "GET /?q=p%40ss%2Fw%3Ard%21 failed",
    "the password of a variable's URL": "password authentication failed: hunter2-and-more is wrong",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", REPLICATE)
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", "postgresql://darkroom:hunter2-and-more@db/darkroom")
    monkeypatch.setenv("SMTP_PASSWORD", "p@ss/w:rd!")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """As it arrives: raised somewhere and caught elsewhere."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def failed(error: BaseException) -> Failure:
    return failure_of(error, LOG, worker="worker-1", versions={"torch": "2", "model": "abc"})


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize(
    "wrap", [lambda text: raised(OSError(text)), lambda text: raised(OSError("see below"), raised(ValueError(text)))]
)
def test_no_secret_reaches_the_ledger_or_the_log(
    leak: str, wrap: Callable[[str], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    failure = failed(wrap(leak))
    assert failure.context is not None
    for kept in (failure.model_dump_json(), caplog.text):
        assert not [secret for secret in (REPLICATE, *OTHER_SECRETS, "p%40ss%2Fw%3Ard%21") if secret in kept]
    assert "***" in failure.context.stack


def test_what_is_no_secret_stays_readable() -> None:
    text = "Token indices are longer than 77 tokens: a cat (key 'unet') at host=db, 3 passes, model=sdxl, seed: 7"
    assert redacted(text) == text
    assert redacted("https://host/x.png?width=8&token=abc&seed=1") == "https://host/x.png?width=8&token=***&seed=1"
    assert redacted("nats://me:pw@host:4222 is away") == "nats://***@host:4222 is away"


def test_the_context_says_what_happened_where_on_what_and_when() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        Path("/nowhere/at/all").read_bytes()

    before = datetime.now(UTC)
    try:
        deep(2)
    except OSError as error:
        failure = failed(error)
    context = failure.context
    assert context is not None
    assert failure.error_class is ErrorClass.INTERNAL
    assert context.exception == "FileNotFoundError"
    lines = context.stack.splitlines()
    assert lines[0].startswith("test_failures.py:")
    assert [line.rpartition(" ")[2] for line in lines[1:4]] == ["deep", "deep", "deep"]
    assert lines[-2].startswith("pathlib.py:")
    assert lines[-1] == "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all'"
    assert str(Path(__file__).parents[2]) not in context.stack
    assert (context.worker, context.versions) == ("worker-1", {"torch": "2", "model": "abc"})
    assert before <= context.at <= datetime.now(UTC)


def test_files_are_named_from_their_package_on_and_homes_not_at_all() -> None:
    with pytest.raises(BrokenFile) as caught:
        read(b"no picture", Kind.VIDEO)
    stack = failed(caught.value).context
    assert stack is not None
    assert "\ngpu_worker/outputs/encode.py:" in stack.stack
    at_home = failed(raised(OSError(f"{Path.home()}/diary.txt is missing"))).context
    assert at_home is not None
    assert at_home.stack.endswith("OSError: ~/diary.txt is missing")


def test_causes_are_reported_first_and_those_that_were_settled_not_at_all() -> None:
    told = failed(raised(BlobStoreUnavailable("away"), raised(OSError("no route")))).context
    assert told is not None
    assert told.stack.splitlines()[1:3] == ["OSError: no route", "which led to:"]
    assert told.exception == "services.files.blobs.BlobStoreUnavailable"
    try:
        try:
            raise KeyError("inside")  # noqa: TRY301 - it is what the other one follows
        except KeyError:
            raise ModelUnavailable("It is broken.") from None
    except ModelUnavailable as error:
        settled = failed(error).context
    assert settled is not None
    assert "inside" not in settled.stack


def endless(levels: int) -> None:
    if levels:
        endless(levels - 1)
    raise ValueError("x" * 10_000)


def test_a_long_stack_keeps_its_innermost_frames() -> None:
    with pytest.raises(ValueError, match="xxx") as caught:
        endless(300)
    failure = failed(caught.value)
    assert failure.context is not None
    assert len(failure.message) <= MESSAGE_CHARS_MAX + len("ValueError: ")
    stack = failure.context.stack
    assert STACK_CHARS_MAX / 2 < len(stack) <= STACK_CHARS_MAX + 2
    assert stack.startswith("…\n")
    assert stack.splitlines()[-1].startswith("ValueError: xxx")
    assert stack.splitlines()[-2].endswith(" in endless")


def test_a_chain_without_end_is_bounded() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 50):
        error = raised(ValueError(str(number)), error)
    failure = failed(error)
    assert failure.context is not None
    assert failure.context.stack.count("which led to:") == 4


@pytest.mark.parametrize(
    ("error", "error_class", "message"),
    [
        (ModelUnavailable("It is gone."), ErrorClass.MODEL_UNAVAILABLE, "It is gone."),
        (OutOfMemory("It is large."), ErrorClass.OUT_OF_MEMORY, "It is large."),
        (InvalidRequest("It cannot be."), ErrorClass.INVALID_INPUT, "It cannot be."),
        (BlobStoreUnavailable("It is away."), ErrorClass.TRANSIENT, "It is away."),
        (UnusableOutput("It is no picture."), ErrorClass.INTERNAL, "It is no picture."),
        (ZeroDivisionError("What?\nA page."), ErrorClass.INTERNAL, "ZeroDivisionError: What?"),
        (AssertionError(), ErrorClass.INTERNAL, "AssertionError: AssertionError"),
    ],
)
def test_an_error_is_a_class_and_a_sentence(error: Any, error_class: ErrorClass, message: str) -> None:
    failure = failed(error)
    assert (failure.error_class, failure.message) == (error_class, message)
