"""NATS permissions: two accounts, joined by a few subjects, and the rights of each user in them.

Permissions alone are not enough: JetStream and responders publish to the reply subject of a request, even if the
requester may not publish there. A worker could direct such an answer into LEDGER. Between accounts an answer goes back
to the requester's account, which has no stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.json_type import Json
from services.messaging.wire import (
    ANNOUNCEMENTS,
    ENHANCE,
    ENHANCERS,
    LEDGER_STREAM,
    PROGRESS,
    REPORTS,
    WAKE,
    WORK_STREAM,
    announce_subject,
    work_consumer,
)

SERVICES_ACCOUNT: Final = "DARKROOM"
WORKERS_ACCOUNT: Final = "WORKERS"

NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{WORK_STREAM}"
ACK: Final = f"$JS.ACK.{WORK_STREAM}"
CANCELS: Final = "cancel.>"

ANY_POOL: Final = ("*",)

ANSWER_S: Final = 30
"""Maximum seconds for a worker's answer to a request: longer than the API waits."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of NATS."""

    user: str
    password: str


def services_permissions() -> Json:
    """Permissions of the services and the API, which create the streams.

    LEDGER is the only stream that they also read, to compare it with the ledger, and delete, to have a damaged one
    filled again.
    """
    streams = [
        f"$JS.API.STREAM.{call}.{name}"
        for name in (LEDGER_STREAM, WORK_STREAM)
        for call in ("INFO", "CREATE", "UPDATE")
    ]
    ledger = [f"$JS.API.{call}.{LEDGER_STREAM}" for call in ("STREAM.MSG.GET", "DIRECT.GET", "STREAM.DELETE")]
    consumers = [f"$JS.API.CONSUMER.{call}.{WORK_STREAM}.>" for call in ("INFO", "CREATE", "DURABLE.CREATE")]
    answers = ["_R_.>", "_INBOX.>"]
    return {
        "publish": {"allow": [WAKE, "ledger.>", "work.>", CANCELS, ENHANCE, *streams, *ledger, *consumers, *answers]},
        "subscribe": {"allow": [WAKE, REPORTS, ANNOUNCEMENTS, PROGRESS, "_INBOX.>"]},
    }


def worker_permissions(user: str, pools: Sequence[str] = ANY_POOL) -> Json:
    """Pull from its pools and ack; report, announce itself and publish progress under its own name.

    It receives answers to its requests, and cancels of its own jobs.

    `enhance` is received in the queue group of the language models; the answer is allowed by `allow_responses`.
    """
    consumers = ["*" if pool == "*" else work_consumer(pool) for pool in pools]
    pulling = [subject for name in consumers for subject in (f"{NEXT}.{name}", f"{ACK}.{name}.>")]
    return {
        "publish": {
            "allow": [*pulling, f"reports.{user}.>", announce_subject(f"{user}.>"), f"progress.{user}.>"],
        },
        "subscribe": {"allow": [f"_INBOX.{user}.>", f"cancel.{user}.>", f"{ENHANCE} {ENHANCERS}"]},
        "allow_responses": {"max": 1, "expires": f"{ANSWER_S}s"},
    }


def accounts(operator: Login, services: Login, workers: Mapping[Login, Sequence[str]]) -> Json:
    """The `accounts` of nats-server's configuration. `operator` may do everything; no Darkroom process uses it.

    `workers` maps each worker's login to its pools.
    """
    called = [f"{NEXT}.*", f"{ACK}.>", REPORTS, ANNOUNCEMENTS, PROGRESS]
    of_workers = [_user(login, worker_permissions(login.user, pools)) for login, pools in workers.items()]
    return {
        SERVICES_ACCOUNT: {
            "jetstream": "enabled",
            "users": [_user(operator), _user(services, services_permissions())],
            # One pull is answered by many messages; all other requests by one.
            "exports": [
                {"service": called[0], "response_type": "stream"},
                *({"service": subject} for subject in called[1:]),
                {"stream": CANCELS},
            ],
            "imports": [{"service": {"account": WORKERS_ACCOUNT, "subject": ENHANCE}}],
        },
        WORKERS_ACCOUNT: {
            "users": of_workers,
            "exports": [{"service": ENHANCE}],
            "imports": [
                *({"service": {"account": SERVICES_ACCOUNT, "subject": subject}} for subject in called),
                {"stream": {"account": SERVICES_ACCOUNT, "subject": CANCELS}},
            ],
        },
    }


def _user(login: Login, permissions: Json | None = None) -> Json:
    named = {"user": login.user, "password": login.password}
    return named if permissions is None else {**named, "permissions": permissions}
