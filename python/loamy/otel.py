"""Traces and metrics of calls, for OpenTelemetry: ``pip install "loamy[otel]"``.

Until `instrument` is called nothing of it is loaded, and a call costs what it did.

Example:
    >>> import loamy.otel
    >>> loamy.otel.instrument()
    >>> loamy.send(urls)  # a span for the call, and below it one for each row that was sent

"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from loamy import _watching
from loamy._loamy import __version__
from loamy._signals import is_handlers
from loamy._watching import Ended, Watching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["instrument", "uninstrument"]

logger = logging.getLogger("loamy")

_Attributes: TypeAlias = dict[str, str | int]

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
"""The methods that the conventions know; others are ``_OTHER``, so that an attribute has few values."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The bounds that the conventions ask for."""

_SCHEMA = "https://opentelemetry.io/schemas/1.23.1"
"""The first version in which the conventions for HTTP were stable; names have not changed since."""


def instrument(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Have every call of this process traced and measured from here on, by whichever door it is made.

    A call is a span named after its door (``loamy.send``), below the span that is current where the call is made. Below it each row
    that was sent is a span of the kind CLIENT, named after its method, with the attributes of the semantic conventions for HTTP;
    all sendings of a row are one span, and ``http.request.resend_count`` says how many came after the first. Rows that were
    never sent are counted on the span of the call. Durations go to the histogram ``http.client.request.duration``. Credentials in URLs
    are masked.

    Every row carries what the global propagator writes (``traceparent``, ``tracestate`` and ``baggage`` unless ``OTEL_PROPAGATORS`` or
    `opentelemetry.propagate.set_global_textmap` says otherwise) for the span of the call, so that the servers' spans stand below
    ``loamy.send``, beside those of the rows. A row or a policy that has such a header keeps its own. The span of a row is made when the
    row has ended, with the times that the engine took: until then it has no id that a header could name.

    There is no ``http.client.active_requests``: it would cost a word between the engine and Python for each row that begins.
    ``progress=`` tells how many are in flight.

    What a provider, a processor or an exporter raises ends no call: the logger ``loamy`` is told of the first such exception, and
    what could not be told is left out.

    Args:
        tracer_provider: where spans go; left out, to the global one.
        meter_provider: where durations go; left out, to the global one.

    """
    _watching.begin = _Instrument(tracer_provider, meter_provider).call


def uninstrument() -> None:
    """Leave calls alone from here on; those under way are told to the end."""
    _watching.begin = None


class _Instrument:
    """Where calls are told."""

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        self.tracer = trace.get_tracer("loamy", __version__, tracer_provider, _SCHEMA)
        meter = metrics.get_meter("loamy", __version__, meter_provider, _SCHEMA)
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.failed = False

    @contextmanager
    def call(self, door: str) -> Iterator[Watching]:
        rows, carried = None, dict[str, str]()
        try:
            rows = _Rows(self, self.tracer.start_span(f"loamy.{door}", kind=SpanKind.INTERNAL))
            propagate.inject(carried, rows.context)
        except Exception as error:
            self.bear(error)
        if rows is None:
            yield Watching()
            return
        try:
            yield Watching(rows.ended, list(carried.items()))
        except Exception as error:
            rows.end(error)
            raise
        except BaseException:
            rows.end()
            raise
        rows.end()

    def bear(self, error: Exception) -> None:
        """Keep what telemetry raises from ending a call: what was sent is worth more than what is told of it."""
        if error.__traceback__ is not None and is_handlers(error.__traceback__):
            raise error
        if not self.failed:
            self.failed = True
            logger.warning("telemetry failed; calls go on, and further failures are not logged", exc_info=error)


class _Rows:
    """The rows of a call."""

    def __init__(self, own: _Instrument, call: Span) -> None:
        self.own = own
        self.call = call
        self.context = trace.set_span_in_context(call)
        self.counts = {"ended": 0, "failed": 0, "unsent": 0}

    def ended(self, rows: list[tuple[str, str, int, str | None, str, int, float]]) -> None:
        # The engine tells how long a row took, and hands it over within a moment of its end.
        now = time.time_ns()
        for fields in rows:
            row = Ended(*fields)
            failed = row.kind is not None or row.status >= 400
            self.counts["ended"] += 1
            self.counts["failed"] += failed
            if row.attempts == 0:
                self.counts["unsent"] += 1
                continue
            try:
                self.tell(row, failed, now)
            except Exception as error:
                self.own.bear(error)

    def tell(self, row: Ended, failed: bool, now: int) -> None:
        common = _common(row, failed)
        self.own.duration.record(row.elapsed, common, self.context)
        span = self.own.tracer.start_span(
            str(common["http.request.method"]).replace("_OTHER", "HTTP"),
            self.context,
            SpanKind.CLIENT,
            common | _of_span(row),
            start_time=now - round(row.elapsed * 1e9),
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)

    def end(self, error: Exception | None = None) -> None:
        try:
            if error is not None:
                self.call.set_attribute("error.type", type(error).__qualname__)
                self.call.set_status(Status(StatusCode.ERROR, str(error).partition("\n")[0]))
            for name, count in self.counts.items():
                self.call.set_attribute(f"loamy.rows.{name}", count)
            self.call.end()
        except Exception as broken:
            self.own.bear(broken)


def _common(row: Ended, failed: bool) -> _Attributes:
    """Return what spans and durations have in common: few values each."""
    attributes: _Attributes = {"http.request.method": row.method if row.method in _METHODS else "_OTHER"}
    # It was sent, so it is a URL.
    parts = urlsplit(row.url)
    attributes["url.scheme"] = parts.scheme
    attributes["server.address"] = parts.hostname or ""
    attributes["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    if row.version:
        attributes["network.protocol.version"] = row.version.removeprefix("HTTP/")
    if row.status:
        attributes["http.response.status_code"] = row.status
    if failed:
        attributes["error.type"] = row.kind or str(row.status)
    return attributes


def _of_span(row: Ended) -> _Attributes:
    attributes: _Attributes = {"url.full": row.url}
    if row.method not in _METHODS:
        attributes["http.request.method_original"] = row.method
    if row.attempts > 1:
        attributes["http.request.resend_count"] = row.attempts - 1
    return attributes
