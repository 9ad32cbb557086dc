"""`loamy.otel`: a span for each call and each row that was sent, by the semantic conventions; nothing unless it is asked for."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loamy
import loamy.otel
import pytest
from loamy import _watching
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from opentelemetry import propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from zconcurrent import zsession

CLOCKS_S = 0.2
"""How far the begin and end of a span may lie from what the caller's clock says, on a loaded machine."""


class Told:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def spans(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """Give the span of the call, and those of its rows."""
        spans = self.exporter.get_finished_spans()
        [call] = [span for span in spans if span.kind == SpanKind.INTERNAL]
        rows = [span for span in spans if span.kind == SpanKind.CLIENT]
        assert len(rows) + 1 == len(spans)
        return call, rows

    def durations(self) -> list[Any]:
        """Give the points of the histogram."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [metric for own in data.resource_metrics for scope in own.scope_metrics for metric in scope.metrics]
        [duration] = metrics
        assert (duration.name, duration.unit) == ("http.client.request.duration", "s")
        return list(duration.data.data_points)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    loamy.otel.instrument(told.tracers, told.meters)
    yield told
    loamy.otel.uninstrument()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_row_is_a_client_span_with_the_attributes_of_the_conventions(server: TestServer, told: Told) -> None:
    began = time.time_ns()
    row = {"method": "POST", "url": server.url("/delay/0.2"), "params": {"page": 2, "token": "secret"}, "json": {}}
    [response] = loamy.send([row])
    call, [span] = told.spans()
    port = int(server.url("").rpartition(":")[2])
    assert span.name == "POST" and span.kind == SpanKind.CLIENT
    assert attributes(span) == {
        "http.request.method": "POST",
        "url.full": server.url("/delay/0.2?page=2&token=***"),
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert span.status.status_code == StatusCode.UNSET
    assert span.start_time is not None and span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(response.elapsed, abs=1e-6)
    assert abs(span.start_time - began) / 1e9 <= CLOCKS_S
    assert span.parent is not None and call.context is not None and span.parent.span_id == call.context.span_id
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("loamy", loamy.__version__)
    assert call.name == "loamy.send" and attributes(call) == {
        "loamy.rows.ended": 1,
        "loamy.rows.failed": 0,
        "loamy.rows.unsent": 0,
    }
    assert call.start_time is not None and call.start_time <= span.start_time


def test_failures_have_the_type_of_their_error_and_urls_no_credentials(
    server: TestServer, told: Told, refused_port: int
) -> None:
    rows = [
        server.url("/status/404"),
        server.url("/close"),
        f"http://user:password@127.0.0.1:{refused_port}/x",
        "no scheme",
        ("PURGE", server.url("/anything")),
    ]
    loamy.send(rows, concurrency=1)
    call, spans = told.spans()
    by_url = {attributes(span)["url.full"]: span for span in spans}
    missing, closed = by_url[server.url("/status/404")], by_url[server.url("/close")]
    refused = by_url[f"http://127.0.0.1:{refused_port}/x"]
    for span, kind in ((missing, "404"), (closed, "closed"), (refused, "connect.refused")):
        assert attributes(span)["error.type"] == kind and span.status.status_code == StatusCode.ERROR
    assert attributes(missing)["http.response.status_code"] == 404
    assert "http.response.status_code" not in attributes(closed)
    assert "network.protocol.version" not in attributes(refused)
    purge = by_url[server.url("/anything")]
    assert (purge.name, attributes(purge)["http.request.method"]) == ("HTTP", "_OTHER")
    assert attributes(purge)["http.request.method_original"] == "PURGE"
    assert len(spans) == 4, "what was never sent is no request"
    assert attributes(call) == {"loamy.rows.ended": 5, "loamy.rows.failed": 4, "loamy.rows.unsent": 1}


def test_sendings_again_are_counted_on_one_span(server: TestServer, told: Told) -> None:
    loamy.send([server.url("/flaky/a?fail=2")], retries=3, backoff=0.01).raise_for_failures()
    _, [span] = told.spans()
    assert attributes(span)["http.request.resend_count"] == 2
    assert attributes(span)["http.response.status_code"] == 200 and "error.type" not in attributes(span)
    assert len(server.requests) == 3


def test_http2_and_tls_are_named(told: Told) -> None:
    with loamy.testing.serve(tls=True) as server:
        loamy.send([server.url("/json")] * 2, extra_ca=server.ca).raise_for_failures()
    _, spans = told.spans()
    for span in spans:
        own = attributes(span)
        assert (own["url.scheme"], own["network.protocol.version"]) == ("https", "2")


def test_durations_are_measured_in_the_buckets_of_the_conventions(server: TestServer, told: Told) -> None:
    loamy.send([server.url("/delay/0.06")] * 4 + [server.url("/status/500")] * 3 + ["no scheme"])
    points = {point.attributes.get("error.type"): point for point in told.durations()}
    assert {kind: point.count for kind, point in points.items()} == {None: 4, "500": 3}
    assert points[None].explicit_bounds == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert 4 * 0.06 <= points[None].sum <= 4 * (0.06 + CLOCKS_S)
    assert set(points["500"].attributes) == {
        "http.request.method",
        "url.scheme",
        "server.address",
        "server.port",
        "http.response.status_code",
        "network.protocol.version",
        "error.type",
    }, "few values each: no URL"


def doors(server: TestServer) -> dict[str, Callable[[], object]]:
    url = server.url("/json")
    return {
        "send": lambda: loamy.send([url] * 3),
        "stream": lambda: list(loamy.stream([url] * 3)),
        "send_async": lambda: asyncio.run(loamy.send_async([url] * 3)),
        "Clump": lambda: Clump([RequestMap(url, "GET")] * 3).send_requests(),
        "zSession": lambda: zsession.zSession([zsession.RequestMap(url, "GET")] * 3).sendRequests(),
    }


@pytest.mark.parametrize("door", ["send", "stream", "send_async", "Clump", "zSession"])
def test_every_door_is_traced_below_the_span_of_its_caller(server: TestServer, told: Told, door: str) -> None:
    tracer = told.tracers.get_tracer("caller")
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        doors(server)[door]()
        assert trace.get_current_span() is outer
    spans = {span.kind: span for span in told.exporter.get_finished_spans()}
    call = spans[SpanKind.INTERNAL]
    assert call.name == f"loamy.{door}"
    assert call.parent is not None and call.parent.span_id == outer.get_span_context().span_id
    rows = [span for span in told.exporter.get_finished_spans() if span.kind == SpanKind.CLIENT]
    assert len(rows) == 3 and all(span.name == "GET" for span in rows)
    assert attributes(call)["loamy.rows.ended"] == 3


def traces(server: TestServer) -> list[str | None]:
    """Give the ``traceparent`` of each request, as the server saw it."""
    return [seen.header("traceparent") for seen in server.requests]


@pytest.mark.parametrize("door", ["send", "stream", "send_async", "Clump", "zSession"])
def test_rows_carry_the_context_of_their_call(server: TestServer, told: Told, door: str) -> None:
    doors(server)[door]()
    call, rows = told.spans()
    context = call.context
    assert context is not None
    assert context.trace_flags.sampled
    assert traces(server) == [f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"] * 3
    assert {span.parent.span_id for span in rows if span.parent is not None} == {context.span_id}


def test_every_sending_of_a_row_carries_it_and_a_resend_that_of_its_own_call(server: TestServer, told: Told) -> None:
    responses = loamy.send([server.url("/flaky/a?fail=2"), server.url("/redirect/1")], retries=1, backoff=0.01)
    first, _ = told.spans()
    told.exporter.clear()
    responses.resend().raise_for_failures()
    second, _ = told.spans()
    ids = [trace.format_span_id(span.context.span_id) for span in (first, second) if span.context is not None]
    seen = [str(value).split("-")[2] for value in traces(server)]
    assert seen == [ids[0]] * 4 + [ids[1]]


def test_what_a_row_or_a_policy_says_itself_is_not_written_over(server: TestServer, told: Told) -> None:
    own, common = f"00-{1:032x}-{1:016x}-01", f"00-{2:032x}-{2:016x}-01"
    loamy.send([{"url": server.url("/json"), "headers": {"Traceparent": own}}, server.url("/json")], concurrency=1)
    loamy.send([server.url("/json")], headers={"traceparent": common})
    mine, other, policys = traces(server)
    assert (mine, policys) == (own, common) and other not in (own, common, None)


def test_baggage_goes_along_and_what_is_no_header_stays_away(server: TestServer, told: Told) -> None:
    from opentelemetry import baggage, context, propagate
    from opentelemetry.propagators.textmap import TextMapPropagator

    token = context.attach(baggage.set_baggage("tenant", "a b"))
    try:
        loamy.send([server.url("/json")]).raise_for_failures()
    finally:
        context.detach(token)
    assert server.requests[0].header("baggage") == "tenant=a+b"

    class Odd(TextMapPropagator):
        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            return context

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            carrier.update({"x-trace": "1", "x y": "2", "x-broken": "3\r\nX-Injected: 4"})

        @property
        def fields(self) -> set[str]:
            return set()

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Odd())
    try:
        loamy.send([server.url("/json")]).raise_for_failures()
    finally:
        propagate.set_global_textmap(before)
    names = {name.lower() for name, _ in server.requests[1].headers}
    assert "x-trace" in names and not names & {"x y", "x-broken", "x-injected", "traceparent"}


def test_rows_that_share_an_answer_and_those_of_a_journal_are_known_again_all_the_same(
    server: TestServer, told: Told, tmp_path: Path
) -> None:
    rows, journal = [server.url("/json")] * 3, tmp_path / "run.loamy"
    loamy.send(rows, duplicates="share").raise_for_failures()
    assert len(server.requests) == 1
    for _ in range(2):
        assert all(response.ok for response in loamy.stream(rows, journal=journal))
    assert len(server.requests) == 1 + 3


def test_without_it_nothing_is_carried(server: TestServer, told: Told) -> None:
    loamy.otel.uninstrument()
    for call in doors(server).values():
        call()
    assert set(traces(server)) == {None}


def test_resend_is_a_call_too(server: TestServer, told: Told) -> None:
    responses = loamy.send([server.url("/flaky/a")])
    told.exporter.clear()
    responses.resend().raise_for_failures()
    call, [span] = told.spans()
    assert call.name == "loamy.resend" and attributes(span)["http.response.status_code"] == 200


def test_what_is_broken_off_is_told_to_the_end(server: TestServer, told: Told) -> None:
    def hear(response: loamy.Response) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        loamy.send([server.url("/json")] + [server.url("/hang")] * 3, on_response=hear)
    call, spans = told.spans()
    assert sorted(str(attributes(span).get("error.type")) for span in spans) == ["None"] + ["cancelled"] * 3
    assert call.status.status_code == StatusCode.ERROR and attributes(call)["error.type"] == "ValueError"
    told.exporter.clear()
    for _ in loamy.stream([server.url("/json")] + [server.url("/hang")] * 3, concurrency=4):
        break
    call, spans = told.spans()
    assert call.status.status_code == StatusCode.UNSET and attributes(call)["loamy.rows.ended"] == 4
    assert len(spans) == 4


def test_what_a_journal_has_is_no_request(server: TestServer, told: Told, tmp_path: Path) -> None:
    rows, journal = (
        [server.url("/flaky/a?status=close"), server.url("/json"), server.url("/get")],
        tmp_path / "run.loamy",
    )
    loamy.send(rows, journal=journal)
    told.exporter.clear()
    loamy.send(rows, journal=journal, retry_failed=True).raise_for_failures()
    _, [span] = told.spans()
    assert attributes(span)["url.full"] == server.url("/flaky/a?status=close") and len(server.requests) == 4


def test_a_sampler_that_wants_nothing_gets_nothing(server: TestServer) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    exporter = InMemorySpanExporter()
    tracers = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    loamy.otel.instrument(tracers, MeterProvider())
    try:
        loamy.send([server.url("/json")] * 3).raise_for_failures()
    finally:
        loamy.otel.uninstrument()
    assert exporter.get_finished_spans() == ()


class Broken(SpanProcessor):
    """Raises at the beginning or the end of spans of that kind."""

    def __init__(self, moment: str, kind: SpanKind) -> None:
        self.moment = moment
        self.kind = kind

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.moment == "start" and span.kind == self.kind:
            raise ValueError("out of order")

    def on_end(self, span: ReadableSpan) -> None:
        if self.moment == "end" and span.kind == self.kind:
            raise ValueError("out of order")


@pytest.mark.parametrize("kind", [SpanKind.CLIENT, SpanKind.INTERNAL], ids=["of a row", "of a call"])
@pytest.mark.parametrize("moment", ["start", "end"])
def test_telemetry_that_raises_ends_no_call_and_is_logged_once(
    server: TestServer, told: Told, caplog: pytest.LogCaptureFixture, moment: str, kind: SpanKind
) -> None:
    told.tracers.add_span_processor(Broken(moment, kind))
    calls = doors(server)
    for call in calls.values():
        call()
    loamy.send([("POST", server.url("/anything"))] * 20).raise_for_failures()
    assert [seen.method for seen in server.requests].count("POST") == 20
    [record] = [record for record in caplog.records if record.name == "loamy"]
    assert "telemetry failed" in record.message and record.exc_info is not None and "out of order" in caplog.text


def test_a_propagator_that_raises_ends_no_call(
    server: TestServer, told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: Any) -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(propagate, "inject", broken)
    loamy.send([server.url("/json")] * 3).raise_for_failures()
    _, spans = told.spans()
    assert len(spans) == 3 == server.counts["requests"]
    assert caplog.text.count("telemetry failed") == 1


def test_what_a_signal_handler_raises_in_the_midst_of_telemetry_leaves_as_itself(
    server: TestServer, told: Told
) -> None:
    class SoftTimeLimitExceeded(Exception):
        pass

    def handler(number: int, frame: Any) -> None:
        raise SoftTimeLimitExceeded

    class Slow(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.kind == SpanKind.CLIENT:
                signal.raise_signal(signal.SIGUSR1)

    told.tracers.add_span_processor(Slow())
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            loamy.send([server.url("/json")] * 3)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_after_uninstrument_calls_are_left_alone(server: TestServer, told: Told) -> None:
    loamy.otel.uninstrument()
    assert _watching.begin is None
    for call in doors(server).values():
        call()
    assert told.exporter.get_finished_spans() == ()


def test_nothing_of_it_is_loaded_unless_it_is_asked_for(server: TestServer, child: Callable[..., Any]) -> None:
    code, out, err = child(
        """
        import sys, loamy
        loamy.send([sys.argv[1]], retries=2, rate="100/s", on_response=lambda response: None)
        print([name for name in sys.modules if name.startswith("opentelemetry") or name == "loamy.otel"])
        """,
        server.url("/json"),
    ).end()
    assert (code, out, err) == (0, "[]\n", "")
