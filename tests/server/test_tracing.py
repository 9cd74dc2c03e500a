"""Traces as a collector receives them: a real server, a real OTLP request, decoded."""

import gzip
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SPANS_PER_REQUEST = 4
DEADLINE_S = 60.0


class Collector:
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def spans(
    start_server: Callable[..., AbstractContextManager], wait_until: Callable[..., None]
) -> list[Any]:
    """The spans of one request with a parent, and of two without a valid one."""
    collector = Collector()
    body = {"prompt": "Hello", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    parent = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=1"}
    unsampled = {"traceparent": f"00-{TRACE_ID[::-1]}-{PARENT_ID}-00"}
    with start_server("--otlp-traces-endpoint", collector.url) as server:
        for headers in (parent, {}, unsampled, {"traceparent": "nonsense"}):
            assert server.post("/v1/completions", json=body, headers=headers).status_code == 200
        # Three of the four are sampled. What the end itself sends has little time.
        wait_until(lambda: len(collector.spans) >= 3 * SPANS_PER_REQUEST, DEADLINE_S)
    collector.stop()
    return collector.spans


def test_a_client_s_trace_goes_on(spans: list[Any]) -> None:
    ours = [span for span in spans if span.trace_id.hex() == TRACE_ID]
    by_name = {span.name: span for span in ours}
    assert set(by_name) == {"llm_request", "queue", "prefill", "decode"} and len(ours) == 4
    root = by_name["llm_request"]
    assert root.parent_span_id.hex() == PARENT_ID
    assert root.trace_state == "vendor=1"
    parts = [by_name[name] for name in ("queue", "prefill", "decode")]
    assert {part.parent_span_id for part in parts} == {root.span_id}
    instants = [root.start_time_unix_nano]
    for part in parts:
        instants += [part.start_time_unix_nano, part.end_time_unix_nano]
    instants.append(root.end_time_unix_nano)
    assert instants == sorted(instants)


def test_a_span_tells_the_request_s_tokens(spans: list[Any]) -> None:
    root = next(s for s in spans if s.name == "llm_request" and s.trace_id.hex() == TRACE_ID)
    attributes = {attribute.key: attribute.value for attribute in root.attributes}
    assert attributes["gen_ai.usage.input_tokens"].int_value == 1
    assert attributes["gen_ai.usage.output_tokens"].int_value == 4
    reasons = attributes["gen_ai.response.finish_reasons"].array_value.values
    assert [reason.string_value for reason in reasons] == ["length"]


def test_without_a_valid_parent_a_trace_begins_here(spans: list[Any]) -> None:
    roots = [s for s in spans if s.name == "llm_request" and s.trace_id.hex() != TRACE_ID]
    assert len(roots) == 2  # the one that the client did not want sampled is not among them
    assert all(not root.parent_span_id for root in roots)


def test_what_is_left_is_sent_at_the_end(
    start_tiny: Callable[..., AbstractContextManager], wait_until: Callable[..., None]
) -> None:
    def is_sent() -> bool:
        """Not by a server that stands still meanwhile: it gives up soon."""
        collector = Collector()
        with start_tiny("--otlp-traces-endpoint", collector.url) as server:
            body = {"prompt": "Hello", "max_tokens": 4}
            assert server.post("/v1/completions", json=body).status_code == 200
        collector.stop()
        return len(collector.spans) == SPANS_PER_REQUEST

    wait_until(is_sent, DEADLINE_S)


def test_a_collector_that_does_not_answer_delays_no_request_and_no_end(
    start_server: Callable[..., AbstractContextManager],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        with start_server("--otlp-traces-endpoint", endpoint) as server:
            body = {"prompt": "Hello", "max_tokens": 4}
            assert server.post("/v1/completions", json=body).status_code == 200
            assert server.stop() == 0
            log = server.log_path.read_text()
    assert log.rstrip().endswith("octavo: stopped"), log


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"otlp_traces_endpoint": "http://me:hidden@collector/v1/traces"})
    assert "--otlp-traces-endpoint" in str(caught.value) and "hidden" not in str(caught.value)
