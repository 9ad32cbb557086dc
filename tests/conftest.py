"""What every Python test shares: interrupts that arrive, and the real servers that some of them ask for."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon, free_port
from own_nginx import running_nginx

pytest_plugins = ["no_skips"]


def pytest_configure() -> None:
    # Whoever starts the tests in the background of a shell starts them with SIGINT ignored, and every child inherits that;
    # the tests of interrupts send it for good reason.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- nginx

_NGINX_HTTP = """
    log_format seen '$request_method $request_uri $server_protocol $status $connection $connection_requests';
    access_log {directory}/access.log seen;
    keepalive_requests 1000000;
    default_type application/json;
    types {{ application/json json; text/plain txt; text/html html; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/root;
        location = /echo {{
            return 200 '{{"method": "$request_method", "args": "$args", "agent": "$http_user_agent"}}';
        }}
        location = /missing {{ return 404 '{{"error": "missing"}}'; }}
        location = /unavailable {{ return 503; }}
        location = /empty {{ return 204; }}
        location = /redirect {{ return 302 /echo; }}
        # Two requests a connection, then it is closed: what the server says with `Connection: close`.
        location = /closing {{ keepalive_requests 2; return 200 '{{"closing": true}}'; }}
    }}
"""


class Nginx:
    """A running nginx: `url` without a trailing slash, `root` for files to serve, `seen()` for what it was asked."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.root = directory / "root"
        self._access_log = directory / "access.log"

    def seen(self) -> list[str]:
        """Gives one line per request answered so far: method, target, protocol, status, connection number, which on it."""
        return self._access_log.read_text().splitlines()


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A real nginx with a configuration of its own on a free port."""
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "root").mkdir()
    port = free_port()
    with running_nginx(directory, _NGINX_HTTP.format(directory=directory, port=port), port):
        yield Nginx(directory, port)


# --- httpbin


@pytest.fixture(scope="session")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, without a trailing slash, of a real httpbin under gunicorn with keep-alive connections."""
    log_path = tmp_path_factory.mktemp("httpbin") / "log"
    running = Daemon(
        [
            *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"),
            *("--worker-class", "gthread", "--workers", "1", "--threads", "32", "--keep-alive", "30"),
            *("--backlog", "2048", "--graceful-timeout", "1", "--no-control-socket", "httpbin:app"),
        ],
        log_path,
    )
    running.start(lambda: "Booting worker" in log_path.read_text())
    try:
        yield re.findall(r"Listening at: (http://127\.0\.0\.1:\d+)", log_path.read_text())[0]
    finally:
        running.stop()


# --- the scripted server


@pytest.fixture(scope="session")
def testkit_program() -> Path:
    """The program `testkit`: `serve`, or `script FILE.json` for a server that behaves as ill as the file says."""
    path = os.environ.get("LOAMY_TESTKIT", "")
    if not os.access(path, os.X_OK):
        pytest.fail(f"LOAMY_TESTKIT ({path!r}) names no program; `make python` builds it and says where it is")
    return Path(path)
