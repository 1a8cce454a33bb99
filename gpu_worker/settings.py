"""Settings of a worker: environment variables `DARKROOM_*`, read once, validated, frozen. No database among them."""

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.setting_names import PREFIX, unread
from domain.validation_words import words_for
from gpu_worker.demo import DEMO_MODELS
from gpu_worker.engines.hosted import fal, replicate
from gpu_worker.engines.hosted.engine import is_hosted
from gpu_worker.tuning import Tuning
from services.messaging.wire import HEARTBEAT_S, LEASE_S, check_port, nats_servers, worker_name
from services.observability.redaction import without_credentials

POOL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MODEL = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
NATS_USER = re.compile(r"[A-Za-z0-9_-]+")
USER_UNKNOWN = "worker"
"""The name of a worker's user for a NATS server without users."""

TOKENS = frozenset({"replicate_api_token", "fal_key"})
"""Settings that are entirely secret; in a URL only the credentials are."""

JOBS_AT_ONCE_MAX = 256
"""Maximum number of concurrent jobs; each uses up to three threads."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class WorkerSettingsError(Exception):
    """A setting has an invalid value; the message names the variable and what is allowed."""

    code = "settings_invalid"


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/darkroom`, usually `~/.local/share/darkroom`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "darkroom"


def default_worker_name() -> str:
    """The host and the process id, so that two workers on one machine differ."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', socket.gethostname()) or 'worker'}-{os.getpid()}"


class WorkerSettings(BaseSettings):
    """The environment variables of `python -m gpu_worker`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    nats_url: SecretStr = Field(
        default=SecretStr("nats://127.0.0.1:4222"), description="NATS URL; several, separated by commas, are a cluster."
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of `darkroom up`; the default object store lies in it."
    )
    blobs_url: str | None = Field(
        default=None,
        description="Object store: `file:///folder`, `s3://bucket`, `gs://…`, `az://…`. Default: in the data folder.",
    )
    worker_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=100)] = Field(
        default_factory=default_worker_name,
        description="Name in the ledger, after that of its NATS user. Default: host name and process id.",
    )
    pools: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = Field(
        default=("sdxl", "wan"), description="Pools whose jobs it takes, separated by commas."
    )
    models: Annotated[Mapping[str, str], NoDecode, Field(min_length=1)] = Field(
        default_factory=lambda: DEMO_MODELS,
        description="What it can load: name=source, separated by commas; a source is a folder, file or hub id, "
        "`replicate:OWNER/NAME` or `fal:OWNER/APP`.",
    )
    replicate_url: str = Field(default=replicate.URL, description="Where Replicate's API is.")
    replicate_api_token: SecretStr | None = Field(
        default=None, validation_alias=replicate.TOKEN_VARIABLE, description="Token of the account at Replicate."
    )
    fal_url: str = Field(default=fal.URL, description="Where fal's queue API is.")
    fal_key: SecretStr | None = Field(
        default=None, validation_alias=fal.TOKEN_VARIABLE, description="Key of the account at fal."
    )
    enhancer: str | None = Field(
        default=None,
        description="Language model that makes prompts richer: a folder or hub id. Default: the rules do it.",
    )
    jobs_at_once: Annotated[int, Field(ge=1, le=JOBS_AT_ONCE_MAX)] = Field(
        default=1,
        description="Jobs it has in hand at a time, each as a worker of its own: `NAME.1`, `NAME.2` …. More than 1 is "
        "for hosted models alone, which have it wait for a provider.",
    )
    device: Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")] | None = Field(
        default=None, description="`cpu`, `cuda`, `cuda:1` …. Default: cuda where there is one, else cpu."
    )
    memory_budget_mb: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="What the weights of the loaded models may take together, in MB. Default: on cuda 90 % of the "
        "device's memory, else half of the machine's.",
    )
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="Numbers of the weights: `bf16`, `fp16`, `fp32`, or `auto`: on cuda fp16 for SDXL and bf16 for "
        "Wan, else fp32.",
    )
    channels_last: bool = Field(
        default=False, description="Whether the channels come last in memory, as convolutions of many GPUs like it."
    )
    compile: bool = Field(
        default=False, description="Whether torch.compile makes the UNet or transformer faster; on cuda alone."
    )
    file_recipe: Literal["full", "minimal"] = Field(
        default="full",
        description="What a file says of how it was made: `full`, with prompt and parameters, or `minimal`, which job "
        "and asset it is.",
    )
    heartbeat_s: Annotated[float, Field(gt=0, le=LEASE_S / 2)] = Field(
        default=HEARTBEAT_S, description=f"Seconds between heartbeats; a job's lease is {LEASE_S:g} s."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How the log is written: `text` for people, `json` for programs, an object a line."
    )
    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("nats_url")
    @classmethod
    def _nats_urls(cls, url: SecretStr) -> SecretStr:
        for server in nats_servers(url.get_secret_value()):
            user = _user_of(urlsplit(server))
            if user is not None and not NATS_USER.fullmatch(user):
                raise ValueError("a worker's user is named by letters, digits, - and _: it reports under that name")
        return url

    @field_validator("replicate_url", "fal_url")
    @classmethod
    def _api_url(cls, url: str) -> str:
        parts = urlsplit(url)
        check_port(parts)
        if not parts.hostname or parts.scheme not in {"https", "http"} or parts.username or parts.query:
            raise ValueError("must look like https://host")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("must begin with https://: a token goes there")
        return url.rstrip("/")

    @field_validator("pools", mode="before")
    @classmethod
    def _pools(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pools = tuple(dict.fromkeys(pool.strip() for pool in value.split(",") if pool.strip()))
        for pool in pools:
            if not POOL.fullmatch(pool):
                raise ValueError(f"{pool!r} is not the name of a pool; use lower-case letters, digits, - and _")
        return pools

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        models: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, _, source = (part.strip() for part in entry.partition("="))
            if not MODEL.fullmatch(name) or not source:
                raise ValueError(f"{without_credentials(entry)!r} is not name=source, as in sdxl=/models/sdxl")
            if name in models:
                raise ValueError(f"the model {name} is there twice")
            models[name] = source
        return models

    @field_validator("jobs_at_once")
    @classmethod
    def _only_hosted_at_once(cls, jobs: int, info: ValidationInfo) -> int:
        """Runs after `models` and `enhancer`. If one of these is invalid, it is missing here and reported instead."""
        local = [name for name, source in info.data.get("models", {}).items() if not is_hosted(source)]
        if jobs > 1 and (local or info.data.get("enhancer") is not None):
            runs_here = f"the model {local[0]}" if local else "the language model of DARKROOM_ENHANCER"
            raise ValueError(f"more than 1 is for hosted models alone, and {runs_here} runs on this machine")
        return jobs

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment. Raises `WorkerSettingsError` with one clear line."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            variable = cls.variable(str(first["loc"][0]))
            reason = words_for(first)
            raise WorkerSettingsError(f"{variable}: {reason}. See `python -m gpu_worker --settings`.") from None

    @classmethod
    def warning_about(cls, names: Iterable[str]) -> str | None:
        """A sentence about variables that no worker reads; None if there are none."""
        named = unread(names, {cls.variable(field) for field in cls.model_fields})
        if named is None:
            return None
        return f"no setting of a worker is called {named}; ignored. `python -m gpu_worker --settings` lists them."

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable of a setting. Providers' tokens use the providers' own names."""
        alias = cls.model_fields[field].validation_alias if field in cls.model_fields else field
        return alias if isinstance(alias, str) else PREFIX + field.upper()

    @property
    def nats_servers(self) -> list[str]:
        """The URLs of all servers, with credentials: not for logs."""
        return nats_servers(self.nats_url.get_secret_value())

    @property
    def worker(self) -> str:
        """The worker's name in the ledger: see `services.messaging.wire.worker_name`."""
        users = [_user_of(urlsplit(server)) for server in self.nats_servers]
        return worker_name(next((user for user in users if user), USER_UNKNOWN), self.worker_name)

    @property
    def workers(self) -> Sequence[str]:
        """The names in the ledger, one per concurrent job: a worker of the ledger has one job."""
        if self.jobs_at_once == 1:
            return [self.worker]
        return [f"{self.worker}.{number}" for number in range(1, self.jobs_at_once + 1)]

    @property
    def tuning(self) -> Tuning:
        """How local models run on the device."""
        return Tuning(dtype=self.dtype, channels_last=self.channels_last, compiled=self.compile)

    def blobs(self) -> str:
        """The object store's URL, or its default."""
        return self.blobs_url or (self.data_dir.absolute() / "blobs").as_uri()

    def listing(self) -> list[str]:
        """A line for each setting: variable, value, default and description, separated by tabs; no credentials."""
        return [
            "\t".join(
                (
                    self.variable(name),
                    "***" if name in TOKENS and getattr(self, name) else _shown(getattr(self, name)),
                    _shown(field.get_default(call_default_factory=True, validated_data={})),
                    str(field.description),
                )
            )
            for name, field in type(self).model_fields.items()
        ]


def _user_of(parts: SplitResult) -> str | None:
    """The user of a NATS URL. A name without a password is a token: a secret, not a name."""
    return unquote(parts.username) if parts.username and parts.password is not None else None


def _shown(value: Any) -> str:
    match value:
        case None:
            text = ""
        case SecretStr():
            text = value.get_secret_value()
        case Mapping():
            text = ",".join(f"{name}={source}" for name, source in value.items())
        case tuple():
            text = ",".join(value)
        case float():
            text = f"{value:g}"
        case bool():
            text = str(value).lower()
        case _:
            text = str(value)
    return without_credentials(text)
