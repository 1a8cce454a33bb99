"""Who may say and hear what: a real nats-server with the accounts that we write, and a stolen worker's password."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from domain.json_type import Json
from services.embedded.nats import Nats
from services.messaging.accounts import Login, accounts
from services.messaging.broker import Broker, ensure_ledger_stream, ensure_work_stream
from services.messaging.wire import (
    ANNOUNCEMENTS,
    CANCEL,
    ENHANCE,
    ENHANCERS,
    HAIL,
    LEDGER_STREAM,
    PROGRESS,
    RECORDERS,
    REPORTS,
    WAKE,
    WORK_STREAM,
    announce_subject,
    cancel_subject,
    cancels_of,
    hail_subject,
    inbox_prefix,
    progress_subject,
    report_subject,
    work_consumer,
    work_subject,
)
from tests.services.beside import OwnNats, settled, until
from tests.services.commits import WAIT_S_MAX

WORKER = "gpu-1.host-7"
OTHER = "gpu-2.host-8"
SOME_JOB = UUID("0b9a4f0e-7f0c-4c55-9a39-0d2f4f6f6a51")
NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{WORK_STREAM}"


USERS = ("operator", "services", "gpu-1")
PRODUCTION = Path(__file__).parents[3] / "nats.conf"


def our_accounts(conf: Json, logins: Mapping[str, Login]) -> str:
    """As `darkroom up` writes them, but for the worker's one pool."""
    operator, services, worker = (logins[user] for user in USERS)
    return json.dumps({**conf, "accounts": accounts(operator, services, {worker: ("sdxl",)})})


def accounts_of_production(conf: Json, logins: Mapping[str, Login]) -> str:
    """As docker-compose.yml has them, for a worker of one pool and another name: what the file says is to be done."""
    text = PRODUCTION.read_text().replace("user: worker", "user: gpu-1").replace(".worker.>", ".gpu-1.>")
    lines = [
        line for line in text.splitlines() if "pool-wan" not in line and not line.startswith(("http_port", "cluster"))
    ]
    text = "\n".join(lines).replace("/data", str(conf["jetstream"]["store_dir"]))
    text = text.replace("port: 4222", f"port: {conf['port']}").replace("$NATS_SERVER_NAME", conf["server_name"])
    for user, variable in zip(USERS, ("OPERATOR", "SERVICES", "WORKER"), strict=True):
        assert f"$NATS_{variable}_PASSWORD" in text
        text = text.replace(f"$NATS_{variable}_PASSWORD", f'"{logins[user].password}"')
    return text


class Rights(OwnNats):
    """A server whose users are an operator, the services, and a worker for one pool."""

    def __init__(self, folder: Path, conf_of: Callable[[Json, Mapping[str, Login]], str]) -> None:
        super().__init__(folder)
        self._logins = {user: Login(user, secrets.token_urlsafe(24)) for user in USERS}
        file = folder / "nats.conf"
        file.write_text(conf_of(json.loads(file.read_text()), self._logins))

    def url_of(self, user: str) -> str:
        """With the user's password."""
        return f"nats://{user}:{self._logins[user].password}@{self.url.rpartition('@')[2]}"


class Somebody:
    """A connection, and what the server refused to it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.refused: list[str] = []

    async def is_refused(self, action: Awaitable[object], subject: str) -> None:
        """Wait until the server has refused it, by name."""
        before = len(self.refused)
        await action
        await self.client.flush(WAIT_S_MAX)
        await until(lambda: len(self.refused) > before)
        assert "permissions violation" in self.refused[-1]
        assert f'"{subject.lower()}"' in self.refused[-1]


async def connected(server: Rights, user: str, worker: str | None = None) -> Somebody:
    """As a user; a worker with the inbox of a worker."""
    somebody = Somebody(Client())

    async def refused(error: Exception) -> None:
        somebody.refused.append(str(error))

    prefix = inbox_prefix(worker) if worker else "_INBOX"
    await somebody.client.connect(server.url_of(user), error_cb=refused, inbox_prefix=prefix)
    return somebody


@pytest.fixture(scope="module", params=[our_accounts, accounts_of_production])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rights]:
    """Running."""
    started = Rights(tmp_path_factory.mktemp("nats"), request.param)
    started.start()
    yield started
    started.kill()


@pytest.fixture
async def services(server: Rights) -> AsyncIterator[Broker]:
    """The services, with the streams that they make themselves."""
    broker = Broker(server.url_of("services"), "services")
    await broker.open()
    await until(lambda: broker.connected)
    await ensure_ledger_stream(broker.jetstream)
    await ensure_work_stream(broker.jetstream, ["sdxl", "wan"])
    yield broker
    await broker.close()


@pytest.fixture
async def operator(server: Rights, services: Broker) -> AsyncIterator[Client]:
    """Who may see everything of the services' account."""
    somebody = await connected(server, "operator")
    yield somebody.client
    for stream in (WORK_STREAM, LEDGER_STREAM):
        await somebody.client.jetstream().purge_stream(stream)
    await somebody.client.close()


@pytest.fixture
async def thief(server: Rights, operator: Client) -> AsyncIterator[Somebody]:
    """Whoever has the password of `gpu-1`."""
    somebody = await connected(server, "gpu-1", WORKER)
    yield somebody
    await somebody.client.close()


FORBIDDEN_TO_SAY = (
    WAKE,
    "ledger.ada.job.queued",
    work_subject("sdxl", SOME_JOB, 1),
    report_subject(OTHER),
    "reports",
    announce_subject(OTHER),
    "workers",
    hail_subject(WORKER),
    progress_subject(OTHER),
    cancel_subject(OTHER, SOME_JOB),
    cancel_subject(WORKER, SOME_JOB),
    ENHANCE,
    "_INBOX.gpu-2.x",
    "_R_.x",
    "$JS.API.INFO",
    f"$JS.API.STREAM.INFO.{LEDGER_STREAM}",
    f"$JS.API.STREAM.INFO.{WORK_STREAM}",
    "$JS.API.STREAM.CREATE.MINE",
    f"$JS.API.STREAM.UPDATE.{WORK_STREAM}",
    f"$JS.API.STREAM.DELETE.{LEDGER_STREAM}",
    f"$JS.API.STREAM.PURGE.{WORK_STREAM}",
    f"$JS.API.STREAM.MSG.GET.{LEDGER_STREAM}",
    f"$JS.API.DIRECT.GET.{LEDGER_STREAM}",
    f"$JS.API.CONSUMER.CREATE.{LEDGER_STREAM}",
    f"$JS.API.CONSUMER.CREATE.{WORK_STREAM}.mine.work.>",
    f"$JS.API.CONSUMER.DURABLE.CREATE.{WORK_STREAM}.mine",
    f"$JS.API.CONSUMER.DELETE.{WORK_STREAM}.{work_consumer('sdxl')}",
    f"$JS.API.CONSUMER.LIST.{WORK_STREAM}",
    f"$JS.API.CONSUMER.INFO.{WORK_STREAM}.{work_consumer('sdxl')}",
    f"{NEXT}.{work_consumer('wan')}",
    f"$JS.ACK.{WORK_STREAM}.{work_consumer('wan')}.1.1.1.1.0",
    f"$JS.ACK.{LEDGER_STREAM}.x.1.1.1.1.0",
)

FORBIDDEN_TO_HEAR = (
    ">",
    "ledger.>",
    "work.>",
    WAKE,
    REPORTS,
    "reports.gpu-1.>",
    PROGRESS,
    "cancel.>",
    "cancel.gpu-2.>",
    "_INBOX.>",
    "_INBOX.gpu-2.>",
    "_R_.>",
    "$JS.>",
    "$SYS.>",
    ENHANCE,  # outside of the queue group it would hear what others are asked
)


@pytest.mark.parametrize("subject", FORBIDDEN_TO_SAY)
async def test_a_worker_cannot_say(thief: Somebody, subject: str) -> None:
    await thief.is_refused(thief.client.publish(subject, b"{}", reply="_INBOX.gpu-1.answer"), subject)


@pytest.mark.parametrize("subject", FORBIDDEN_TO_HEAR)
async def test_a_worker_cannot_hear(thief: Somebody, subject: str) -> None:
    await thief.is_refused(thief.client.subscribe(subject), subject)


async def test_a_worker_pulls_its_pool_and_acks(thief: Somebody, operator: Client) -> None:
    jetstream = operator.jetstream()
    for pool in ("sdxl", "wan"):
        await jetstream.publish(work_subject(pool, uuid4(), 1), pool.encode())
    pull = await thief.client.jetstream().pull_subscribe_bind(work_consumer("sdxl"), WORK_STREAM)
    (message,) = await pull.fetch(1, timeout=WAIT_S_MAX)
    await message.in_progress()
    await message.nak()
    (message,) = await pull.fetch(1, timeout=WAIT_S_MAX)
    assert (message.data, message.metadata.num_delivered) == (b"sdxl", 2)
    await message.ack()
    await settled(thief.client)
    async with asyncio.timeout(WAIT_S_MAX):
        while (await jetstream.stream_info(WORK_STREAM)).state.messages != 1:  # noqa: ASYNC110 - the other pool's is left
            await asyncio.sleep(0.01)
    assert thief.refused == []


async def test_no_answer_can_be_led_into_a_stream(thief: Somebody, services: Broker, operator: Client) -> None:
    """JetStream and the recorder publish to whatever reply subject a request names."""
    held = await operator.jetstream().publish("ledger.ada.job.queued", b"1")

    async def answer(message: Msg) -> None:
        await message.respond(b"{}")

    await services.subscribe(REPORTS, answer, RECORDERS)
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await operator.subscribe("ledger.>", cb=hear)
    await settled(operator)
    await operator.jetstream().publish(work_subject("sdxl", uuid4(), 1), b"an order")
    for reply in ("ledger.evil", f"$JS.API.STREAM.PURGE.{LEDGER_STREAM}", f"$JS.API.STREAM.DELETE.{WORK_STREAM}"):
        pull = f"{NEXT}.{work_consumer('sdxl')}"
        for payload in (b'{"batch": 1, "no_wait": true}', b"1", b"nonsense"):
            await thief.client.publish(pull, payload, reply)
        await thief.client.publish(report_subject(WORKER), b"{}", reply)
    assert (await thief.client.request(report_subject(WORKER), b"{}", timeout=WAIT_S_MAX)).data == b"{}"
    await settled(operator)
    assert (heard, thief.refused) == ([], [])
    state = (await operator.jetstream().stream_info(LEDGER_STREAM)).state
    assert (state.messages, state.last_seq) == (1, held.seq)
    assert (await operator.jetstream().stream_info(WORK_STREAM)).state.messages == 1


async def test_a_worker_announces_itself_under_its_own_name_and_hears_a_hail(thief: Somebody, services: Broker) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(message.subject.encode())

    await services.subscribe(ANNOUNCEMENTS, answer, RECORDERS)
    hails = await thief.client.subscribe(cancels_of(WORKER))
    await settled(services.client)
    await settled(thief.client)
    answered = await thief.client.request(announce_subject(WORKER), b"{}", timeout=WAIT_S_MAX)
    assert answered.data.decode() == announce_subject(WORKER)
    await services.client.publish(hail_subject(WORKER), HAIL)
    assert (await hails.next_msg(timeout=WAIT_S_MAX)).data == HAIL
    assert thief.refused == []


async def test_a_worker_reports_and_tells_progress_under_its_own_name(thief: Somebody, services: Broker) -> None:
    heard: list[str] = []

    async def answer(message: Msg) -> None:
        heard.append(message.subject)
        if message.reply:
            await message.respond(b"taken")

    await services.subscribe(REPORTS, answer, RECORDERS)
    await services.subscribe(PROGRESS, answer)
    await settled(services.client)
    assert (await thief.client.request(report_subject(WORKER), b"{}", timeout=WAIT_S_MAX)).data == b"taken"
    await thief.client.publish(progress_subject(WORKER), b"{}")
    await until(lambda: len(heard) == 2)
    assert heard == [report_subject(WORKER), progress_subject(WORKER)]


async def test_a_worker_hears_the_cancels_that_are_meant_for_it(thief: Somebody, services: Broker) -> None:
    job_id = uuid4()
    cancels = await thief.client.subscribe(cancel_subject(WORKER, job_id))
    await settled(thief.client)
    await services.client.publish(cancel_subject(OTHER, job_id), CANCEL)
    await services.client.publish(cancel_subject(WORKER, job_id), CANCEL)
    assert (await cancels.next_msg(timeout=WAIT_S_MAX)).subject == cancel_subject(WORKER, job_id)
    assert thief.refused == []


async def test_a_worker_answers_what_it_is_asked_and_no_more(thief: Somebody, services: Broker) -> None:
    asked: list[Msg] = []

    async def answer(message: Msg) -> None:
        asked.append(message)
        await message.respond(b"a richer prompt")

    await thief.client.subscribe(ENHANCE, ENHANCERS, answer)
    await settled(thief.client)
    answered = await services.client.request(ENHANCE, b"a prompt", timeout=WAIT_S_MAX)
    assert answered.data == b"a richer prompt"
    await thief.is_refused(thief.client.publish(asked[0].reply, b"another one"), asked[0].reply)


FORBIDDEN_TO_SERVICES = (
    report_subject(WORKER),
    announce_subject(WORKER),
    progress_subject(WORKER),
    "$JS.API.STREAM.DELETE.WORK",
    "$JS.API.STREAM.PURGE.WORK",
    "$JS.API.STREAM.PURGE.LEDGER",
    "$JS.API.STREAM.MSG.GET.WORK",
    f"{NEXT}.{work_consumer('sdxl')}",
)


@pytest.mark.parametrize("subject", FORBIDDEN_TO_SERVICES)
async def test_the_services_cannot_pass_for_a_worker_or_lose_work(server: Rights, subject: str) -> None:
    services = await connected(server, "services")
    await services.is_refused(services.client.publish(subject, b"{}"), subject)
    await services.client.close()


def test_a_folder_of_before_there_were_accounts_goes_on(tmp_path: Path) -> None:
    first = Nats(tmp_path)
    first.prepare()
    port = int(first.url.rpartition(":")[2])
    old = {"port": port, "authorization": {"user": "darkroom", "password": "as-it-was"}}
    (tmp_path / "nats.conf").write_text(json.dumps(old))
    left = tmp_path / "nats" / "jetstream" / "$G" / "streams"
    left.mkdir(parents=True)
    later = Nats(tmp_path)
    later.prepare()
    assert later.url == f"nats://darkroom:as-it-was@127.0.0.1:{port}"
    assert not left.parent.exists()
    once_more = Nats(tmp_path)
    once_more.prepare()
    assert (once_more.url, once_more.services_url, once_more.worker_url) == (
        later.url,
        later.services_url,
        later.worker_url,
    )
    assert len({url.split(":")[2] for url in (later.url, later.services_url, later.worker_url)}) == 3
