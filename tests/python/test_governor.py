"""What servers say about their limits, obeyed: pauses and quotas, as the server sees it."""

from __future__ import annotations

import itertools
import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import loamy
import pytest
from arrivals import LATE_S, arrivals
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from zconcurrent import zsession

SLOW_MACHINE_S = 2.5
"""What a loaded machine may need on top of the time that a call must take."""


ON_ITS_WAY_S = 0.2
"""How much later than a refusal requests may come that were sent before it arrived, on a loaded machine."""


def refused(times: list[float], limit: int, window: float) -> Iterator[tuple[float, float]]:
    """Give each refusal of a server that counts in fixed windows, which begin with a request: when, and until when."""
    begin, granted = -window, 0
    for at in times:
        if at >= begin + window:
            begin, granted = at, 0
        granted += 1
        if granted > limit:
            yield at, begin + window


def test_a_429_pauses_its_host_and_no_other(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        rows = [server.url("/flaky/a?status=429&retry_after=1")]
        rows += [url for n in range(20) for url in (server.url(f"/stamp/a/{n}"), other.url(f"/stamp/a/{n}"))]
        loamy.send(rows, retries=1, concurrency=4).raise_for_failures()
        refused = next(seen.arrived for seen in server.requests if seen.target.startswith("/flaky"))
        # What was on its way beside it had gone before the answer came.
        after = [seen.arrived for seen in server.requests if seen.arrived > refused + 0.2]
        assert len(after) >= 17 and min(after) >= refused + 1.0
        apart = arrivals(other, "/stamp")
        assert len(apart) == 20 and apart[-1] - apart[0] <= 0.9, "the other goes on meanwhile"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("spelling", ["retry-after", "retry-after-date"])
def test_e20_no_request_comes_within_a_pause_however_it_is_spelled(
    server: TestServer, status: int, spelling: str
) -> None:
    query = f"limit=10&window=2s&as={spelling}&refuse={status}"
    responses = loamy.send([server.url(f"/limited/a/{n}?{query}") for n in range(30)], concurrency=5, retries=3)
    assert all(response.ok for response in responses)
    times = arrivals(server, "/limited")
    refusals = list(refused(times, 10, 2.0))
    assert refusals, "thirty rows do not fit"
    for when, until in refusals:
        early = [at for at in times if when + ON_ITS_WAY_S < at < until - LATE_S]
        assert early == [], f"refused at {when} until {until}"
    # What a date says may be a second late, never early.
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(pauses) <= 2.0 + 1.0 + SLOW_MACHINE_S
    assert len(times) <= 30 + 2 * 5, "who was told to wait does not hammer on"


def test_after_a_pause_one_row_goes_first(server: TestServer) -> None:
    rows = [server.url(f"/limited/a/{n}?limit=8&window=1500ms&as=retry-after&takes=20ms") for n in range(16)]
    loamy.send(rows, concurrency=8, retries=2).raise_for_failures()
    times = arrivals(server, "/limited")
    [back] = [place for place in range(1, len(times)) if times[place] - times[place - 1] >= 0.9]
    assert times[back + 1] - times[back] >= 0.015, "the second waits for the answer of the first"


SPELLINGS = ["draft10", "draft7", "draft6", "x-epoch", "x-delta", "x-duration", "x-rfc3339", "openai", "anthropic"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_published_quota_is_kept_without_being_refused_again_and_again(server: TestServer, spelling: str) -> None:
    rows = [server.url(f"/limited/a/{n}?limit=10&window=2s&as={spelling}") for n in range(25)]
    began = time.monotonic()
    responses = loamy.send(rows, concurrency=4, retries=3)
    took = time.monotonic() - began
    assert {response.status_code for response in responses} == {200}
    # In the first second the governor learns; what was under way then may be refused, once each.
    assert len(server.requests) <= 25 + 4
    # Resets are told in whole seconds by most, so a window may last one longer.
    assert took <= 3 * (2.0 + 1.0) + SLOW_MACHINE_S


def test_without_the_governor_each_row_fares_for_itself(server: TestServer) -> None:
    rows = [server.url(f"/limited/a/{n}?limit=10&window=60s") for n in range(40)]
    began = time.monotonic()
    responses = loamy.send(rows, governor=False)
    assert time.monotonic() - began <= SLOW_MACHINE_S
    assert [response.status_code for response in responses].count(429) == 30
    assert len(server.requests) == 40


def test_k20_the_contract_classes_are_polite_too_and_governor_false_restores_what_was(server: TestServer) -> None:
    def clump(name: str, **policy: Any) -> list[Any]:
        requests = [
            RequestMap(server.url(f"/limited/{name}/{n}?limit=5&window=600s&as=retry-after"), "GET") for n in range(12)
        ]
        given = {"policy": loamy.Policy(**policy)} if policy else {}
        return Clump(requests, **given).send_requests()

    before = [response.status_code for response in clump("old", governor=False, concurrency=2)]
    assert before.count(200) == 5 and before.count(429) == 7
    now = clump("new", concurrency=2)
    assert sum(response.status_code == 200 for response in now) == 5
    unsent = [response for response in now if isinstance(response.error, loamy.NotSent)]
    assert len(unsent) >= 5 and all(response.status_code == 0 for response in unsent)
    seen = [seen for seen in server.requests if seen.target.startswith("/limited/new")]
    assert len(seen) == 12 - len(unsent)
    maps = [zsession.RequestMap(server.url(f"/limited/z/{n}?limit=1&window=1s&as=none"), "GET") for n in range(3)]
    results = zsession.zSession(maps, policy=loamy.Policy(governor=False)).sendRequests(return_exceptions=True)
    assert sorted(response.statusCode for response in results.requestResponses) == [200, 429, 429]


def test_e20_rows_beyond_max_pause_are_not_sent_and_are_told_when(server: TestServer) -> None:
    rows = [server.url("/flaky/first?status=429&retry_after=3600")] + [server.url("/stamp/late")] * 30
    began = time.monotonic()
    responses = loamy.send(rows, concurrency=1, retries=3)
    assert time.monotonic() - began <= SLOW_MACHINE_S, "nobody waits an hour"
    assert responses[0].status_code == 429 and responses[0].attempts == 1
    assert {response.kind for response in responses[1:]} == {"not_sent"}
    text = str(responses[1].error)
    host = server.url("").removeprefix("http://")
    told = re.match(rf"not_sent: {host} takes no further request for (\d+) s, and max_pause is 60 s \(GET ", text)
    # A little chance is added, so that not all come back at once.
    assert told is not None and 3600 <= int(told[1]) <= 3600 * 1.1 + 1, text
    assert text.endswith("hint: send these rows again then, or allow a longer pause")
    assert len(server.requests) == 1, "nothing reached the server"
    assert arrivals(server, "/stamp") == []


def test_a_deadline_before_the_end_of_a_pause_is_not_waited_for(server: TestServer) -> None:
    rows = [server.url("/flaky/first?status=429&retry_after=30")] + [server.url("/stamp/late")] * 5
    began = time.monotonic()
    responses = loamy.send(rows, concurrency=1, deadline=10)
    assert time.monotonic() - began <= SLOW_MACHINE_S
    assert {response.kind for response in responses[1:]} == {"not_sent"}
    assert "the deadline of the batch is before that" in str(responses[1].error)
    assert len(server.requests) == 1


def test_a_longer_pause_is_waited_for_where_it_is_allowed(server: TestServer) -> None:
    rows = [server.url("/flaky/first?status=429&retry_after=2")] + [server.url("/stamp/late")] * 3
    patient = loamy.send(rows, concurrency=1, retries=1, max_pause=math.inf)
    assert all(response.ok for response in patient)
    [first, *others] = [seen.arrived for seen in server.requests]
    assert min(others) >= first + 2.0
    with loamy.testing.serve() as again:
        rows = [row.replace(server.url(""), again.url("")) for row in rows]
        hasty = loamy.send(rows, concurrency=1, retries=1, max_pause=1)
        assert [response.kind for response in hasty] == [None, *["not_sent"] * 3]
        assert len(again.requests) == 1


# --- What is told


def pauses_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {(record.name, record.levelno) for record in caplog.records} <= {("loamy", logging.WARNING)}
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("door", ["send", "stream", "clump"])
def test_a_pause_is_one_warning_on_the_calling_thread(
    server: TestServer, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    import threading

    policy = loamy.Policy(concurrency=8, retries=2)
    urls = [server.url(f"/limited/a/{n}?limit=10&window=1500ms&as=retry-after") for n in range(18)]
    with caplog.at_level(logging.INFO, "loamy"):
        if door == "send":
            loamy.send(urls, policy=policy).raise_for_failures()
        elif door == "stream":
            assert all(response.ok for response in loamy.stream(urls, policy=policy))
        else:
            Clump([RequestMap(url, "GET") for url in urls], policy=policy).send_requests()
    [text] = pauses_told(caplog)
    host = server.url("").removeprefix("http://")
    assert re.fullmatch(
        rf"{host} is paused for (1\.\d|2|2\.\d) s: it takes no more requests for now; what waits for it goes on after that",
        text,
    )
    assert {record.thread for record in caplog.records} == {threading.get_ident()}


def test_a_pause_beyond_max_pause_is_told_as_what_it_is(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    rows = [server.url("/flaky/first?status=429&retry_after=3600")] + [server.url("/json")] * 3
    loamy.send(rows, concurrency=1)
    [text] = pauses_told(caplog)
    assert re.search(
        r" is paused for 3[6-9]\d\d s: .* beyond max_pause \(60 s\), so what waits for it is not sent$", text
    )


def test_a_short_pause_and_a_call_without_the_governor_are_silent(
    server: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    loamy.send([server.url("/flaky/a?status=429&retry_after=0")] * 3, retries=2, backoff=0.01)
    loamy.send([server.url("/flaky/b?status=429&retry_after=5")] * 3, governor=False)
    assert pauses_told(caplog) == []


def test_a_pause_is_silent_where_nobody_has_set_up_logging(server: TestServer, child: Callable[..., Any]) -> None:
    code, out, err = child(
        """
        import sys, loamy
        print(len(loamy.send([sys.argv[1]] * 3, retries=1)))
        """,
        server.url("/flaky/a?status=429&retry_after=1"),
    ).end()
    assert (code, out, err) == (0, "3\n", "")


def test_the_progress_shows_who_is_paused_and_for_how_long(server: TestServer) -> None:
    seen: list[loamy.Progress] = []
    rows = [server.url("/flaky/first?status=429&retry_after=2")] + [server.url("/json")] * 5
    loamy.send(rows, concurrency=1, retries=1, progress=seen.append).raise_for_failures()
    paused = [now for now in seen if now.paused]
    assert len(paused) >= 10
    host = server.url("").removeprefix("http://")
    left = []
    for now in paused:
        [(origin, seconds)] = now.paused
        assert origin == host and 0 < seconds <= 2.0 * 1.1 + LATE_S
        assert now.eta is None or now.eta >= seconds - LATE_S
        left.append(seconds)
    assert left == sorted(left, reverse=True)
    assert seen[-1].paused == ()


def test_a_line_of_the_log_names_who_is_paused(server: TestServer, child: Callable[..., Any]) -> None:
    code, out, err = child(
        """
        import logging, sys, time
        began, monotonic = time.monotonic(), time.monotonic
        time.monotonic = lambda: began + 50 * (monotonic() - began)
        import loamy
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
        loamy.send([sys.argv[1]] + [sys.argv[2]] * 3, progress=True, concurrency=1, retries=1)
        """,
        server.url("/flaky/a?status=429&retry_after=2"),
        server.url("/json"),
    ).end()
    assert (code, err) == (0, "")
    host = re.escape(server.url("").removeprefix("http://"))
    lines = [line for line in out.splitlines() if line.startswith("INFO")]
    assert any(re.search(rf" in flight, paused: {host} [\d.]+ s, [\d.]+ s left$", line) for line in lines), out


def test_a_bar_shows_who_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from loamy import progress
    from tqdm import tqdm

    drawn = io.StringIO()
    monkeypatch.setattr(progress, "_bar", lambda total: tqdm(total=total, unit="row", file=drawn, mininterval=0))
    with progress.telling(True, 4) as tell:
        assert tell is not None
        tell(3, 0, 1, 0, 1, (("api.x.com:443", 12.3),), 12.3)
        tell(0, 0, 4, 0, 0, (), 0.0)
    frames = drawn.getvalue().split("\r")
    assert any("retrying=1, paused=api.x.com:443 12 s" in frame for frame in frames)
    assert "paused" not in frames[-1] and "4/4" in frames[-1]


def test_nginx_is_obeyed_when_it_refuses(limiting_nginx: Any) -> None:
    # nginx says 429 and no more than that: pauses begin at half a second, and what it bears is found out.
    rows = [f"{limiting_nginx.url}/limited?n={n}" for n in range(80)]
    responses = loamy.send(rows, retries=8, concurrency=10)
    assert {response.status_code for response in responses} == {200}
    lines = [line.split() for line in limiting_nginx.seen()]
    refused = sum(line[3] == "429" for line in lines)
    assert 1 <= refused <= 20 + 10, "a batch that is told to wait does not hammer on"
