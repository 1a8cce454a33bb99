"""Server-sent events: all events of the owner's jobs and assets, from any position, exactly once.

A client first subscribes to the feed, then reads missed events from the history view up to the feed's position, then
continues with the feed: nothing is missing, and nothing is repeated.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.events.feed import StreamsEnded, Subscription, TooSlow, frame_of
from api.http.errors import ViewBehind
from api.http.identity import identity_of, until_revoked
from api.http.openapi import answers, body_and_headers
from api.http.read_your_writes import position_of
from api.http.responses import encoded
from api.jobs.documents import history_document
from api.state import ApiState, state_of
from domain.errors import FieldProblem, InvalidInput
from projections.reads import jobs as reads
from services.database import Unavailable, WritesStopped
from services.observability.metrics import EVENT_STREAMS_CUT_OFF
from services.restore.epochs import EventId, event_id_of

log = logging.getLogger(__name__)

router = APIRouter(tags=["events"])

COMMENT_S: Final = 15.0
"""Seconds between comments, which keep proxies from closing a silent stream."""

SEND_S_MAX: Final = 10.0
"""Seconds after which a client that does not read is cut off; the server's high-water mark bounds its buffers."""

CHUNK_BYTES_MAX: Final = 64 * 1024
PAGE_EVENTS: Final = 100
"""Missed events read at a time, and held until the client has read them: usually 100 kB, at most 10 MB."""

OUTAGE_PAUSE_S: Final = 0.5

HANG_UP: Final = "darkroom.hang_up"
"""Key of a request's scope with the function that resets its connection: see api/http/protocol.py."""

STREAMED: Final = {
    "description": "Server-sent events, without an end. `id` is the position (after a restore EPOCH-POSITION), `event` "
    "the name of the event, `data` a HistoryItem. `progress` (data: job, step, total) has no id; `restored` (data: "
    "epoch, position) says that events after this position are others than before. A comment comes every 15 s.",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: 7\nevent: asset.completed\ndata: {"position": 7, "type": "asset.completed"}\n\n',
        }
    },
}
"""The description of the stream."""

COMMENT: Final = b":\n\n"
OPENING: Final = b"retry: 1000\n\n"


@router.get(
    "/v1/events",
    response_model=None,
    response_class=Response,
    responses=answers({}, 422, 503) | {200: STREAMED},
    openapi_extra=body_and_headers(None, "Last-Event-ID"),
)
async def stream_events(request: Request, last_event_id: str | None = None) -> Response:
    """Server-sent events: `id` is the position, `event` the type, `data` the history item. Progress has no id.

    `Last-Event-ID` (or `?last_event_id=`) resumes after that position; without it the stream starts now. After a
    restore of an older backup ids are `EPOCH-POSITION`. A client that then resumes from an id that the ledger lost
    receives `event: restored` (data: `epoch` and `position`, the last one that both histories share), and continues
    from there.
    """
    state = state_of(request)
    asked = request.headers.get("last-event-id", last_event_id)
    after = None if asked is None else (event_id_of(asked) or EventId("", position_of("Last-Event-ID", asked)))
    subscription = await state.feed.subscribe(identity_of(request).owner)
    try:
        start, told = await asyncio.to_thread(_start, state, after)  # after subscribing: nothing is missed in between
        subscription.starts_after = start
    except BaseException:
        state.feed.unsubscribe(subscription)
        raise
    return EventStream(state, subscription, start, told)


def _start(state: ApiState, after: EventId | None) -> tuple[int, bytes]:
    """The position after which the stream starts, and the first message for the client.

    Raises `InvalidInput` for a position that the ledger never had, and `Unavailable` for one that it may have lost.
    """
    epochs = state.feed.epochs = state.parts.ledger.epochs()
    head = state.parts.ledger.head()
    if after is None:
        return head, b""
    shared = epochs.shared_with(after.epoch)
    if shared is not None and after.position > shared:
        start = min(shared, head)
        epoch = "" if epochs.current is None else epochs.current.short
        return start, frame_of("restored", encoded({"epoch": epoch, "position": start}), epochs.label(start))
    if after.position > head:
        _require_whole(state)
        raise InvalidInput([FieldProblem("Last-Event-ID", f"is beyond the ledger, which ends at {head}")])
    return after.position, b""


def _require_whole(state: ApiState) -> None:
    """Raises `Unavailable` while the ledger may lack events that the client received; this is no client error."""
    reason = state.parts.ledger.stopped()
    if reason is not None:
        raise WritesStopped(reason)
    if not state.parts.is_compared():
        raise Unavailable("The ledger is not compared with NATS yet.", reason="not_compared")


class EventStream(Response):
    """The answer to one client. Ends when the client disconnects, is too slow or is revoked, or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, state: ApiState, subscription: Subscription, after: int, told: bytes = b"") -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._here = state
        self._subscription = subscription
        self._after = after
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client disconnects."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        revoking = asyncio.create_task(self._end_when_revoked(scope))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.result() and HANG_UP in scope:
                scope[HANG_UP]()  # a plain close would wait until the client has read everything
                await leaving
        finally:
            self._here.feed.unsubscribe(self._subscription)
            for task in (sending, leaving, revoking):
                task.cancel()
            await asyncio.gather(sending, leaving, revoking, return_exceptions=True)

    async def _end_when_revoked(self, scope: Scope) -> None:
        await until_revoked(scope)
        self._subscription.end()

    async def _send(self, send: Send) -> bool:
        """True when the answer is complete; False if the client does not read."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            try:
                async for chunk in _chunks(self._here, self._subscription, self._after, self._told):
                    await _body(send, chunk)
            except StreamsEnded:
                pass
            except TooSlow:
                EVENT_STREAMS_CUT_OFF.inc()
            await _body(send, b"", more=False)
        except TimeoutError:
            EVENT_STREAMS_CUT_OFF.inc()
            log.info("an event stream of %s was cut off: its client did not read", self._subscription.owner)
            return False
        return True


async def _chunks(state: ApiState, subscription: Subscription, after: int, told: bytes) -> AsyncIterator[bytes]:
    """The stream's bytes, without end. Raises `TooSlow` and `StreamsEnded`."""
    yield OPENING + told
    async for chunk in _missed(state, subscription, after):
        yield chunk
    while True:
        frames = await subscription.take(COMMENT_S, CHUNK_BYTES_MAX)
        # The client may be ahead of this process's feed: another process served it before.
        for chunk in _joined(frame.content for frame in frames if frame.position is None or frame.position > after):
            yield chunk
        if not frames:
            yield COMMENT


async def _missed(state: ApiState, subscription: Subscription, after: int) -> AsyncIterator[bytes]:
    """The events after `after`, up to the beginning of the subscription's queue."""
    upto = subscription.since
    while after < upto or subscription.lost:
        if subscription.ended:
            raise StreamsEnded
        if subscription.lost:  # the feed was faster than the backlog: continue reading from the view
            upto = state.feed.restart(subscription)
        try:
            await state.positions.reached(("history",), upto)
            async with state.feed.catching_up:
                chunks, after = await asyncio.to_thread(_page, state, subscription.owner, after, upto)
        except (ViewBehind, Unavailable):
            await asyncio.sleep(OUTAGE_PAUSE_S)
            yield COMMENT
            continue
        for chunk in chunks:
            yield chunk


def _page(state: ApiState, owner: str, after: int, upto: int) -> tuple[list[bytes], int]:
    """The next missed events as bytes, and the position after which to continue. Not for the event loop."""
    with state.parts.views.of(owner) as connection:
        rows = reads.history_of_owner(connection, owner, after=after, upto=upto, limit=PAGE_EVENTS)
    frames = (frame_of(row.type, encoded(history_document(row)), state.feed.epochs.label(row.position)) for row in rows)
    return list(_joined(frames)), rows[-1].position if len(rows) == PAGE_EVENTS else upto


def _joined(frames: Iterable[bytes]) -> Iterable[bytes]:
    """Join frames up to a maximum size: one write for many small ones."""
    parts: list[bytes] = []
    total = 0
    for frame in frames:
        if parts and total + len(frame) > CHUNK_BYTES_MAX:
            yield b"".join(parts)
            parts, total = [], 0
        parts.append(frame)
        total += len(frame)
    if parts:
        yield b"".join(parts)


async def _body(send: Send, chunk: bytes, *, more: bool = True) -> None:
    """Send, or raise `TimeoutError`. Not by `wait_for`: in Python 3.11 it may swallow a cancellation."""
    async with asyncio.timeout(SEND_S_MAX):
        await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
