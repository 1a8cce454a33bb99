"""docker-compose.yml is valid, and what its containers run exists. There is no Docker engine in the tests."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from api.cli import Service
from gpu_worker.settings import WorkerSettings
from services.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
CONTAINERS = YAML(typ="safe").load(COMPOSE)["services"]
BROKERS = ("nats-1", "nats-2", "nats-3")
OURS = {name: container for name, container in CONTAINERS.items() if "build" in container}


def test_it_fits_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_has_its_container() -> None:
    assert set(OURS) == {"migrate", *Service}
    assert set(CONTAINERS) == {"postgres", *BROKERS, *OURS}


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_command_exists(name: str) -> None:
    command = OURS[name]["command"]
    assert command == (["migrate"] if name == "migrate" else ["run", name])
    if name == "migrate":
        helped = subprocess.run(
            [sys.executable, "-m", "api.cli", *command, "--help"], cwd=ROOT, capture_output=True, check=False
        )
        assert helped.returncode == 0


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_settings_exist(name: str) -> None:
    settings = WorkerSettings if name == "worker" else Settings
    known = {PREFIX + field.upper() for field in settings.model_fields}
    assert set(OURS[name]["environment"]) <= known


def test_the_worker_has_no_way_to_the_database() -> None:
    worker = str(OURS["worker"]).lower()
    assert "postgres" not in worker
    assert "admin_token" not in worker


def test_services_wait_for_the_schema_and_the_broker() -> None:
    for name in set(OURS) - {"migrate", "worker"}:
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}, name
    for name in set(OURS) - {"migrate"}:
        for broker in BROKERS:
            assert OURS[name]["depends_on"][broker] == {"condition": "service_healthy"}, name
    assert all("healthcheck" in CONTAINERS[name] for name in ("postgres", "api", *BROKERS))


def test_every_stream_is_on_every_broker() -> None:
    conf = (ROOT / "nats.conf").read_text("utf-8")
    assert all(f"nats://{broker}:6222" in conf for broker in BROKERS)
    assert {CONTAINERS[broker]["environment"]["NATS_SERVER_NAME"] for broker in BROKERS} == set(BROKERS)
    for name in set(OURS) - {"migrate"}:
        assert all(f"@{broker}:4222" in OURS[name]["environment"]["DARKROOM_NATS_URL"] for broker in BROKERS), name
    assert {OURS[name]["environment"]["DARKROOM_NATS_REPLICAS"] for name in ("relay", "dispatcher")} == {"3"}


def test_no_password_is_committed() -> None:
    secrets = [value for key, value in settings_of(CONTAINERS) if re.search("TOKEN|PASSWORD|DSN|NATS_URL", key)]
    assert secrets
    assert all(":?" in value for value in secrets)  # compose refuses to start without a value


def settings_of(containers: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of every environment variable."""
    return [pair for container in containers.values() for pair in container.get("environment", {}).items()]


def test_the_image_has_every_package() -> None:
    packages = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    declared = set(declared_packages())
    assert set(packages) == declared
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} >= declared


def declared_packages() -> list[str]:
    """The top-level packages that pyproject.toml installs."""
    import tomllib

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [pattern.removesuffix("*") for pattern in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]]
