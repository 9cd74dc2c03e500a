"""OpenTelemetry traces: one span a choice, with its queue, prefill and decode inside.

Needs the extra `otel`. A client's W3C Trace Context (`traceparent`, `tracestate`) is taken as the
parent, and its decision whether to sample is kept. Spans are made when a choice has ended, from the
instants that the metrics are made from too, so that nothing is traced while it runs. Attributes are
named as in OpenTelemetry's semantic conventions for generative AI, or as vLLM names them.
"""

import logging
import threading
import time

from ..engine.errors import ConfigurationError
from ..engine.messages import StepResult
from ..engine.telemetry import FinishedChoice, FinishedPrompt

try:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError(
        f"--otlp-traces-endpoint needs the extra `otel`: pip install 'octavo[otel]' ({error})"
    ) from None

from .. import __version__

logger = logging.getLogger(__name__)

EXPORT_TIMEOUT_S = 5.0
CLOSING_TIMEOUT_S = 2.0


class Tracing:
    """Sends a trace of every choice to a collector; a `TelemetryListener`.

    `endpoint` is an OTLP/HTTP address with its path, like http://localhost:4318/v1/traces. What the
    collector does not take is dropped with a warning of the exporter's; no request waits for it.
    """

    def __init__(self, endpoint: str, model_name: str) -> None:
        resource = Resource.create({"service.name": "octavo", "service.version": __version__})
        # Not at the interpreter's exit, which would wait for a collector that does not answer.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("octavo", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._model_name = model_name
        logger.info("traces go to %s", endpoint)

    def close(self) -> None:
        """Send what is left, for two seconds at most; what is not taken by then is lost."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(CLOSING_TIMEOUT_S)

    def on_choice_finished(self, choice: FinishedChoice) -> None:
        """Record a choice's spans."""
        headers = {
            "traceparent": choice.origin.traceparent,
            "tracestate": choice.origin.tracestate,
        }
        parent = self._propagator.extract({name: text for name, text in headers.items() if text})
        # Spans bear the time of day; our instants are of the monotonic clock.
        offset = time.time() - time.monotonic()

        def nanoseconds(instant: float) -> int:
            return int((instant + offset) * 1e9)

        span = self._tracer.start_span(
            "llm_request",
            context=parent,
            kind=trace.SpanKind.SERVER,
            start_time=nanoseconds(choice.arrived_at),
            attributes={
                "gen_ai.operation.name": "generate",
                "gen_ai.request.model": self._model_name,
                "gen_ai.request.id": choice.request_id,
                "gen_ai.request.max_tokens": choice.max_tokens,
                "gen_ai.response.finish_reasons": (choice.finish_reason,),
                "gen_ai.usage.input_tokens": choice.prompt_tokens,
                "gen_ai.usage.output_tokens": choice.generation_tokens,
                "gen_ai.usage.cache_read.input_tokens": choice.cached_tokens,
            },
        )
        if choice.first_token_at is not None:
            ttft = choice.first_token_at - choice.arrived_at
            span.set_attribute("gen_ai.latency.time_to_first_token", ttft)
        if choice.finish_reason == "error":
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        for name, begin, end in (
            ("queue", choice.queued_at, choice.scheduled_at),
            ("prefill", choice.scheduled_at, choice.first_token_at),
            ("decode", choice.first_token_at, choice.last_token_at),
        ):
            if begin is not None and end is not None:
                part = self._tracer.start_span(name, inside, start_time=nanoseconds(begin))
                part.end(nanoseconds(end))
        span.end(nanoseconds(choice.ended_at))

    def on_request(self, n: int) -> None:
        """Nothing to trace yet."""

    def on_step(self, step: StepResult) -> None:
        """Steps belong to many requests, and to no trace."""

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """Nothing to trace yet."""

    def on_inter_token(self, itl_s: float) -> None:
        """Nothing to trace yet."""

    def on_prompt_finished(self, prompt: FinishedPrompt) -> None:
        """Its choices were traced one by one."""
