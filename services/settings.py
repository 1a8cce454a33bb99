"""Settings: environment variables `DARKROOM_*`, read once, validated, frozen. docs/settings.md describes each."""

import os
from importlib import resources
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.recipes.catalog import Catalog
from domain.recipes.catalog_file import CatalogError, CatalogFile, read_catalog
from domain.validation_words import words_for
from services.messaging.wire import LEASE_S, nats_servers

PREFIX = "DARKROOM_"

UPLOAD_MB_MAX = 64
"""Maximum megabytes of an upload: a minute of 1080p video, or the largest supported image; the file is decoded in
memory."""


REQUESTS_PER_S_MAX = 50.0
REQUESTS_AT_ONCE_MAX = 500
"""Maximum number of concurrent requests: a page of a hundred images is a hundred requests, and users open at most one
every two seconds."""


class SettingsError(Exception):
    """A setting has an invalid value; the message names the variable and what is allowed."""

    code = "settings_invalid"


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/darkroom`, usually `~/.local/share/darkroom`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "darkroom"


class Settings(BaseSettings):
    """Settings of the services and the command line. Workers have their own, without a database."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder that holds everything of `darkroom up`."
    )
    postgres_dsn: SecretStr | None = Field(
        default=None, description="PostgreSQL connection string; without it `darkroom up` starts its own server."
    )
    postgres_api_dsn: SecretStr | None = Field(
        default=None,
        description="Connection string with which the API reads the views; without it as the role `darkroom_api` "
        "by way of the other one.",
    )
    nats_url: SecretStr | None = Field(
        default=None,
        description="NATS URL, several of a cluster separated by commas; without it `darkroom up` starts its own.",
    )
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        default=1,
        description="How many servers of a NATS cluster keep each stream: 3 outlive the loss of one.",
    )
    worker_nats_url: SecretStr | None = Field(
        default=None,
        description="NATS URL that `darkroom up` gives its worker, of a user with a worker's rights alone.",
    )
    blobs_url: str | None = Field(
        default=None,
        description="Object store: `file:///…`, `s3://…`, `gs://…` or `az://…`. Default: `blobs` in the data folder.",
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8700, description="Port the API listens on; 0 picks a free one."
    )
    admin_token: SecretStr | None = Field(
        default=None,
        description="Token of the administrator, at least 16 characters. `darkroom up` makes one when there is none.",
    )
    url: str | None = Field(
        default=None, description="Where the client commands find the API. Default: `url` in the data folder."
    )
    token: SecretStr | None = Field(
        default=None, description="The token that client commands use. Default: `admin.token` in the data folder."
    )
    sdxl_model: str = Field(
        default="sdxl-demo", description="Catalog model of the `sdxl_image_*` job types: `sdxl-demo` or `sdxl`."
    )
    wan_model: str = Field(
        default="wan-demo",
        description="Catalog model of the Wan job types: `wan-demo`, `wan-2.1-1.3b` or `wan-2.2-5b`.",
    )
    catalog_file: Path | None = Field(
        default=None,
        description="A catalog of your own (TOML) on top of the shipped one: models, job types, parameters.",
    )
    upload_mb_max: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=UPLOAD_MB_MAX, description="The largest upload that the API takes, in MB."
    )
    requests_per_s_max: Annotated[float, Field(ge=0.01)] = Field(
        default=REQUESTS_PER_S_MAX, description="Requests per second that the API takes of each owner, on average."
    )
    requests_at_once_max: Annotated[int, Field(ge=1)] = Field(
        default=REQUESTS_AT_ONCE_MAX, description="Requests that each owner may send at once, after a pause."
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses and networks of reverse proxies, separated by commas: their `X-Forwarded-For` "
        "and `X-Forwarded-Proto` is believed. Default: none.",
    )
    lease_s: Annotated[float, Field(ge=1.0)] = Field(
        default=LEASE_S, description="Seconds without a heartbeat after which a worker counts as lost."
    )
    running_per_owner_max: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="How many jobs of one owner may run at a time, over all pools. Default: no limit."
    )
    disk_free_min_mb: Annotated[int, Field(ge=0)] = Field(
        default=256, description="`darkroom up` refuses to start with less free disk space than this, in MB."
    )
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port on which `darkroom run` answers scrapes of what its process counts, without a token. "
        "Default: none.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How the log is written: `text` for people, `json` for programs, an object a line."
    )
    log_level: str = Field(default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.")

    @field_validator("admin_token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return token

    @field_validator("postgres_dsn", "postgres_api_dsn")
    @classmethod
    def _connection_string(cls, dsn: SecretStr | None) -> SecretStr | None:
        """Validated with our own message: libpq's may quote a part of the password as host or port."""
        if dsn is None:
            return None
        from psycopg import ProgrammingError  # noqa: PLC0415 - most commands have no database, and start faster without
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

        try:
            parts = conninfo_to_dict(dsn.get_secret_value())
        except ProgrammingError:
            parts = {"host": "@"}
        ports = str(parts.get("port") or "").split(",")
        if "@" in str(parts.get("host") or "") or not all(port.isdecimal() for port in ports if port):
            raise ValueError(
                "must look like postgresql://user:password@host/name; / : @ % in a password are written %2F %3A %40 %25"
            )
        return dsn

    @field_validator("nats_url", "worker_nats_url")
    @classmethod
    def _nats_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            nats_servers(url.get_secret_value())
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, proxies: str) -> str:
        for each in filter(None, (part.strip() for part in proxies.split(","))):
            try:
                ip_network(each)
            except ValueError:
                raise ValueError(f"{each} is no address and no network, as in 127.0.0.1 or 10.0.0.0/8") from None
        return proxies

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment. Raises `SettingsError` with one clear line."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            reason = words_for(first)
            raise SettingsError(f"{variable}: {reason}. See `darkroom settings`.") from None

    def catalog(self) -> Catalog:
        """The shipped catalog with the user's own file on top, and each pool on its chosen model.

        Raises `SettingsError`.
        """
        files = [
            CatalogFile("catalog.toml", resources.files("domain.recipes").joinpath("catalog.toml").read_text("utf-8"))
        ]
        if self.catalog_file is not None:
            files.append(_own_file(self.catalog_file))
        try:
            catalog = read_catalog(*files)
        except CatalogError as error:
            raise SettingsError(f"{PREFIX}CATALOG_FILE: {error}") from None
        for pool, model in (("sdxl", self.sdxl_model), ("wan", self.wan_model)):
            try:
                catalog = catalog.with_model(pool, model)
            except ValueError as error:
                raise SettingsError(f"{PREFIX}{pool.upper()}_MODEL: {error}") from None
        return catalog

    def blobs(self) -> str:
        """The object store's URL, or its default."""
        return self.blobs_url or (self.data_dir.absolute() / "blobs").as_uri()


def _own_file(path: Path) -> CatalogFile:
    try:
        return CatalogFile(str(path), path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{PREFIX}CATALOG_FILE: {path} cannot be read: {reason}.") from None
