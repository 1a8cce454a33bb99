"""Three nats-servers of this machine as one JetStream cluster, each of which can be killed and started again."""

import secrets
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx

from services.embedded.child import Child
from services.embedded.nats import _nats_bin
from services.messaging.accounts import Login

CONF = Path(__file__).parents[2] / "nats.conf"
NODES = 3
STARTED_S_MAX = 60.0


class Node:
    """One server: its ports, its store, its process."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.client_port, self.route_port, self.monitor_port = (_free_port() for _ in range(3))
        folder.mkdir(parents=True)
        self.child = Child(
            [str(_nats_bin()), "-c", str(folder / "nats.conf")], folder / "nats.log", death_signal=signal.SIGKILL
        )

    def ask(self, path: str) -> dict[str, Any]:
        """What its monitor says; nothing while it does not answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.monitor_port}{path}", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return {}
        return dict(answer.json())

    def kill(self) -> None:
        """As a power cut does to a process."""
        self.child.end([(signal.SIGKILL, 10.0)])


class NatsCluster:
    """R3: every stream is kept by all three, and goes on with two."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Node(f"nats-{number}", folder / f"nats-{number}") for number in range(1, NODES + 1)]
        self._logins = [Login(user, secrets.token_urlsafe(12)) for user in ("operator", "services")]
        self._worker = Login("worker", secrets.token_urlsafe(12))
        for node in self.nodes:
            self._write_conf(node)

    @property
    def services_url(self) -> str:
        """All of them, as `DARKROOM_NATS_URL` takes it."""
        return self._url_of(self._logins[1])

    @property
    def worker_url(self) -> str:
        """The same for `DARKROOM_WORKER_NATS_URL`."""
        return self._url_of(self._worker)

    def __enter__(self) -> "NatsCluster":
        for node in self.nodes:
            node.child.spawn()
        self.wait_until(self.whole)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def whole(self) -> bool:
        """Whether every node is up and current, and one leads."""
        if not all(node.ask("/healthz").get("status") == "ok" for node in self.nodes):
            return False
        return all(node.ask("/jsz").get("meta_cluster", {}).get("leader") for node in self.nodes)

    def leader_of(self, stream: str) -> Node | None:
        """The node that leads a stream; None while there is none."""
        for node in self.nodes:
            for account in node.ask("/jsz?streams=1&accounts=1").get("account_details", []):
                for detail in account.get("stream_detail", []):
                    leader = detail.get("cluster", {}).get("leader")
                    if detail["name"] == stream and leader:
                        return next(one for one in self.nodes if one.name == leader)
        return None

    def last_sequence_of(self, stream: str) -> dict[str, int]:
        """The last sequence of a stream at each node that answers."""
        found: dict[str, int] = {}
        for node in self.nodes:
            for account in node.ask("/jsz?streams=1&accounts=1").get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream:
                        found[node.name] = detail["state"]["last_seq"]
        return found

    def wait_until(self, holds: Any, within_s: float = STARTED_S_MAX) -> None:
        """Wait for it, with a bound."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, "the cluster did not get there in time"
            time.sleep(0.05)

    def _url_of(self, login: Login) -> str:
        where = [f"127.0.0.1:{node.client_port}" for node in self.nodes]
        return ",".join(f"nats://{login.user}:{login.password}@{one}" for one in where)

    def _write_conf(self, node: Node) -> None:
        """The file of docker-compose.yml, with the addresses of this machine."""
        text = CONF.read_text("utf-8").replace("$NATS_SERVER_NAME", node.name)
        for login, variable in zip((*self._logins, self._worker), ("OPERATOR", "SERVICES", "WORKER"), strict=True):
            text = text.replace(f"$NATS_{variable}_PASSWORD", f'"{login.password}"')
        for one in self.nodes:
            text = text.replace(f"nats://{one.name}:6222", f"nats://127.0.0.1:{one.route_port}")
        text = text.replace("port: 6222", f'listen: "127.0.0.1:{node.route_port}"')
        text = text.replace("http_port: 8222", f'http: "127.0.0.1:{node.monitor_port}"')
        text = text.replace("port: 4222", f'listen: "127.0.0.1:{node.client_port}"')
        (node.folder / "nats.conf").write_text(text.replace("/data", str(node.folder / "store")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
