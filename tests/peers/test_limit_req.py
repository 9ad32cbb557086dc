"""nginx that limits requests (`limit_req`, status 429) and says no more of it: what it bears is found out, and every row arrives."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import loamy
import pytest
from daemon import free_port
from own_nginx import running_nginx

RETRIES = 5
REFUSED_LATER = 0.10
"""The share that may be refused once a second has passed since the first refusal: twice what holds in virtual time, for threads that
wake up late on a loaded machine send in lumps."""
TIMES_IDEAL = 4.0
"""How much longer a list may take than if its sender had known the limit: twice what holds in virtual time."""
PATIENCE_S = 6.0
SLOTS = 10
TO_BEGIN_S = 5.0
"""For the first pause, the rows that wait for their own second sending at the end, and a machine that is busy with other tests."""


@dataclass(frozen=True)
class Limit:
    """What `limit_req` is given."""

    rate: int
    burst: int
    waits: bool = False
    """Whether what comes too early within the burst waits, as it does without `nodelay`."""
    unit: str = "s"

    def ideal(self, rows: int) -> float:
        return (rows - (0 if self.waits else self.burst)) / self.rate

    def directive(self) -> str:
        burst = f" burst={self.burst}" if self.burst else ""
        return f"limit_req zone=own{burst}{'' if self.waits else ' nodelay'};"


class LimitingNginx:
    """An nginx with that limit, which nobody else has used."""

    def __init__(self, directory: Path, limit: Limit) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "access.log"
        self.http = f"""
            log_format seen '$msec $status $request_uri';
            access_log {self._log} seen;
            keepalive_requests 1000000;
            limit_req_zone $binary_remote_addr zone=own:1m rate={limit.rate}r/{limit.unit};
            limit_req_status 429;
            server {{
                listen 127.0.0.1:{self.port} backlog=4096;
                location / {{ {limit.directive()} empty_gif; }}
            }}
        """

    def seen(self) -> list[tuple[float, int, str]]:
        """When each request ended, with which status, and what it asked for."""
        lines = (line.split() for line in self._log.read_text().splitlines())
        return [(float(at), int(status), target) for at, status, target in lines]


@pytest.fixture
def limiting(tmp_path: Path) -> Iterator[Callable[[Limit], LimitingNginx]]:
    with contextlib.ExitStack() as running:

        def start(limit: Limit) -> LimitingNginx:
            nginx = LimitingNginx(tmp_path, limit)
            running.enter_context(running_nginx(tmp_path, nginx.http, nginx.port))
            return nginx

        yield start


@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        (Limit(100, 20), 300),
        (Limit(10, 5), 60),
        (Limit(1000, 100), 2500),
        (Limit(100, 20, waits=True), 300),
        (Limit(10, 5, waits=True), 60),
    ],
    ids=str,
)
def test_every_row_arrives_at_an_nginx_that_only_refuses(
    limiting: Callable[[Limit], LimitingNginx], limit: Limit, rows: int
) -> None:
    nginx = limiting(limit)
    began = time.monotonic()
    responses = loamy.send([f"{nginx.url}/{number}" for number in range(rows)], retries=RETRIES)
    took = time.monotonic() - began
    assert responses.counts() == {"ok": rows}
    seen = nginx.seen()
    taken = [target for _, status, target in seen if status == 200]
    assert sorted(taken) == sorted(f"/{number}" for number in range(rows)), "each was taken once"
    assert len(seen) == sum(response.attempts for response in responses)
    refusals = [at for at, status, _ in seen if status == 429]
    assert refusals, "it was not tried what it bears"
    later = [status for at, status, _ in seen if at > refusals[0] + 1.0]
    assert later.count(429) <= max(1, REFUSED_LATER * len(later)), f"{later.count(429)} of {len(later)} were refused"
    assert took <= TIMES_IDEAL * limit.ideal(rows) + TO_BEGIN_S


def test_h10_an_nginx_that_refuses_everything_is_asked_seldom(limiting: Callable[[Limit], LimitingNginx]) -> None:
    # The first request of a minute is taken, and this one is ours.
    nginx = limiting(Limit(1, 0, waits=True, unit="m"))
    loamy.send([nginx.url]).raise_for_failures()
    rows = [f"{nginx.url}/{number}" for number in range(200)]
    responses = loamy.send(rows, retries=RETRIES, concurrency=SLOTS, deadline=PATIENCE_S)
    assert len(responses) == 200 and not any(response.ok for response in responses)
    refused = [at for at, status, _ in nginx.seen() if status == 429]
    # Beside the first go those whose connections stand by then; after that one at a time, 0.5 s later, 1 s after that, and 2 s.
    assert len(refused) <= SLOTS + 3
    assert sum(at > refused[0] + 0.4 for at in refused) <= 3
