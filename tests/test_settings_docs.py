"""docs/settings.md says what the code does: every setting, no other, each with its default."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from gpu_worker.settings import WorkerSettings
from services.settings import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(?P<name>[A-Z_]+)` \| (?P<default>.*?) ?\| (?P<meaning>.+) \|$", re.MULTILINE)


def documented(section: str) -> dict[str, tuple[str, str]]:
    """Default and meaning by variable, of one section of the page."""
    text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return {row["name"]: (row["default"].strip("`"), row["meaning"]) for row in ROW.finditer(text)}


@pytest.mark.parametrize(
    ("section", "settings"), [("Services and the command line", Settings), ("Workers", WorkerSettings)]
)
def test_every_setting_is_documented_and_no_other(section: str, settings: type[BaseSettings]) -> None:
    assert sorted(documented(section)) == sorted(variable(settings, name) for name in settings.model_fields)


@pytest.mark.parametrize(
    ("section", "settings"), [("Services and the command line", Settings), ("Workers", WorkerSettings)]
)
def test_documented_defaults_are_those_of_the_code(section: str, settings: type[BaseSettings]) -> None:
    in_code = {
        variable(settings, name): as_text(field.default)
        for name, field in settings.model_fields.items()
        if field.default_factory is None  # depends on the machine: the page describes it
    }
    page = documented(section)
    assert {name: page[name][0] for name in in_code} == in_code


@pytest.mark.parametrize(
    ("section", "settings"), [("Services and the command line", Settings), ("Workers", WorkerSettings)]
)
def test_secrets_are_called_secret(section: str, settings: type[BaseSettings]) -> None:
    secret = {
        variable(settings, name)
        for name, field in settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert {name for name, (_, meaning) in documented(section).items() if meaning.endswith("Secret.")} == secret


def variable(settings: type[BaseSettings], name: str) -> str:
    """Its name in the environment, which others have given to some."""
    alias = settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def as_text(default: object) -> str:
    """A default as one would write it into the environment."""
    match default:
        case None:
            return ""
        case SecretStr():
            return default.get_secret_value()
        case Mapping():
            return ",".join(f"{name}={source}" for name, source in default.items())
        case tuple():
            return ",".join(default)
        case float():
            return f"{default:g}"
        case bool():
            return str(default).lower()
        case _:
            return str(default)
