"""A real OpenTelemetry collector, as far as spans go: OTLP over HTTP, decoded by the protocol's own classes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Collected:
    """A span as it arrived."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def links(self) -> list[str]:
        return [link.trace_id.hex() for link in self.span.links]

    @property
    def attributes(self) -> dict[str, str | int]:
        return {one.key: value_of(one.value) for one in self.span.attributes}

    @property
    def failed(self) -> bool:
        return self.span.status.code == 2


def value_of(value: AnyValue) -> str | int:
    return value.int_value if value.WhichOneof("value") == "int_value" else value.string_value


class Collector:
    """What arrived so far, and where to send more."""

    def __init__(self, url: str, spans: list[Collected]) -> None:
        self.url = url
        self.spans = spans

    def trace(self, trace_id: str) -> list[Collected]:
        return [one for one in list(self.spans) if one.trace_id == trace_id]

    def names(self, trace_id: str) -> set[str]:
        return {one.name for one in self.trace(trace_id)}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    spans: list[Collected] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces", self.path
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                spans.extend(Collected(service, span) for scope in resource.scope_spans for span in scope.spans)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, name="collector")
    serving.start()
    try:
        yield Collector(f"http://127.0.0.1:{server.server_address[1]}", spans)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
