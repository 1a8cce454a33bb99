"""What the doctor looks at, and what it says."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from domain.validation_words import words_for
from services.settings import PREFIX, Settings


class Fault(Exception):
    """Something is wrong. `what` and `remedy` are a sentence or two each."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class CheckSkipped(Exception):
    """There is nothing to look at here; the text says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found."""

    check: str
    status: Literal["ok", "fault", "skipped"]
    what: str = ""
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """For programs."""
        return {"check": self.check, "status": self.status, "what": self.what, "remedy": self.remedy}

    def line(self) -> str:
        """For people."""
        match self.status:
            case "ok":
                return f"ok       {self.check}"
            case "skipped":
                return f"skipped  {self.check}: {self.what}"
            case _:
                return f"FAULT    {self.check}: {self.what}\n         Fix: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Examination:
    """The settings, or what is wrong with them, and this machine's clock in seconds since 1970."""

    settings: Settings | None
    problems: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time

    @classmethod
    def of_environment(cls, data_dir: Path | None = None) -> Self:
        """As every other command would be started now."""
        try:
            settings = Settings()
        except ValidationError as error:
            return cls(None, tuple(_problems(error)))
        return cls(settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir}))

    @property
    def given(self) -> Settings:
        """The settings. Raises `CheckSkipped` while they are wrong: nothing can be looked at before."""
        if self.settings is None:
            raise CheckSkipped("the settings are not valid")
        return self.settings

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.given.data_dir.expanduser().absolute()

    def dsn(self) -> str:
        """Of the settings, else of the `darkroom up` on the data folder. Raises `CheckSkipped`."""
        if self.given.postgres_dsn is not None:
            return self.given.postgres_dsn.get_secret_value()
        found = self.read("postgres.dsn")
        if found is None:
            raise CheckSkipped("no Darkroom runs on the data folder, and DARKROOM_POSTGRES_DSN names no other server")
        return found

    def read(self, name: str) -> str | None:
        """A file of the data folder; None for one that is not there or cannot be read."""
        try:
            return (self.folder / name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None


def _problems(error: ValidationError) -> list[str]:
    return [f"{PREFIX}{str(one['loc'][0]).upper()}: {words_for(one)}" for one in error.errors(include_input=False)]
