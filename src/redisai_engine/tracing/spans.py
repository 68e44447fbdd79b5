"""
W3C trace context: a request that names its trace (`traceparent`) becomes a span of it, with OpenTelemetry.

The SDK isn't a dependency. Spans are made if it is installed and OTEL_TRACES_EXPORTER names an exporter, such as `otlp`
or `console`: nothing is sent anywhere unless that says so. Without it a request costs one comparison more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

_log = logging.getLogger(__name__)

VARIABLE = "OTEL_TRACES_EXPORTER"
_NANOSECONDS = 1e9


class Spans:
    """Makes spans, which `exporter` gets."""

    def __init__(self, exporter: Any) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("redisai-engine")
        self._propagator = TraceContextTextMapPropagator()
        self._server = SpanKind.SERVER
        self._error = Status(StatusCode.ERROR)

    def record(
        self,
        name: str,
        context: Mapping[str, str],
        attributes: Mapping[str, str | int],
        parts: Sequence[tuple[str, float]],
        *,
        failed: bool,
    ) -> None:
        """
        Make a span of a request that has just been answered.

        `context` is the request's `traceparent` and `tracestate`, where it has them. Each of the `parts`, which took so
        many seconds one after another, is a span below it, unless there is only one.
        """
        end = time.time_ns()
        lengths = [(part, int(seconds * _NANOSECONDS)) for part, seconds in parts]
        begin = end - sum(length for _, length in lengths)
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(dict(context)),
            kind=self._server,
            start_time=begin,
            attributes=dict(attributes),
        )
        if failed:
            span.set_status(self._error)
        if len(lengths) > 1:
            self._add_parts(span, begin, lengths)
        span.end(end)

    def _add_parts(self, span: Any, begin: int, lengths: Sequence[tuple[str, int]]) -> None:
        from opentelemetry.trace import set_span_in_context

        inside = set_span_in_context(span)
        for part, length in lengths:
            self._tracer.start_span(part, context=inside, start_time=begin).end(begin + length)
            begin += length

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def spans_by(environment: Mapping[str, str] = os.environ) -> Spans | None:
    """Return what makes spans as the environment wants it, or None."""
    name = environment.get(VARIABLE, "none").partition(",")[0].strip()
    if name in ("", "none"):
        return None
    from importlib.metadata import entry_points  # it takes a megabyte

    try:
        (entry,) = entry_points(group="opentelemetry_traces_exporter", name=name)
        return Spans(entry.load()())
    except ValueError:
        _log.warning("no traces: %s is %r, but no exporter of this name is installed", VARIABLE, name)
    except Exception as error:
        _log.warning("no traces: OpenTelemetry's exporter %s can't be used: %s", name, error)
    return None
