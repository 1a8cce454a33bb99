"""The connection to NATS: it reconnects forever, and logs once when it is lost and once when it is back."""

import logging

from nats.aio.client import Client

from gpu_worker.backoff import Outage
from services.messaging.wire import inbox_prefix
from services.observability.redaction import without_credentials

LOG = logging.getLogger("darkroom.worker")

RECONNECT_S = 0.5
CONNECT_S_MAX = 2


async def connect(servers: list[str], worker: str) -> Client:
    """Connect, however long NATS is down. Cancel it to give up."""
    outage = Outage(LOG, "NATS")

    async def failed(error: Exception) -> None:
        if not connection.is_connected:
            outage.missed(without_credentials(str(error).strip() or type(error).__name__))
        else:
            LOG.warning("NATS: %s", without_credentials(str(error)))

    async def disconnected() -> None:
        if not connection.is_closed:
            outage.missed("the connection broke")

    async def reconnected() -> None:
        outage.over()

    connection = Client()
    await connection.connect(
        servers,
        name=f"darkroom worker {worker}",
        inbox_prefix=inbox_prefix(worker),
        error_cb=failed,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        connect_timeout=CONNECT_S_MAX,
        reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # declared int, used as seconds of asyncio.sleep
        max_reconnect_attempts=-1,
        ping_interval=10,
        max_outstanding_pings=2,
    )
    outage.over()
    return connection
