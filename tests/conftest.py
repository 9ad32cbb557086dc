"""What every Python test shares: no test may be skipped, and the real servers that some of them ask for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

START_UP_S = 20.0


def pytest_configure() -> None:
    # Whoever starts the tests in the background of a shell starts them with SIGINT ignored, and every child inherits that;
    # the tests of interrupts send it for good reason.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A skipped test is a sentence that nobody proved: it fails the run. The same holds for a module that skips itself when it is
# collected, and for an expected failure.


def _fail(report: Any) -> None:
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
    reason = getattr(report, "wasxfail", None) or reason
    report.outcome = "failed"
    report.longrepr = f"no test may be skipped or expected to fail: {reason}"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped or hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- nginx

_NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
{user}
events {{ worker_connections 4096; }}
http {{
    log_format seen '$request_method $request_uri $server_protocol $status $connection $connection_requests';
    access_log {directory}/access.log seen;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A real nginx with a configuration of its own on a free port."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        pytest.fail("nginx is missing; install it with: apt-get install nginx")
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "root").mkdir()
    # As root, nginx's workers would become a user who may not enter a temporary directory of ours.
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    config = directory / "nginx.conf"

    for _ in range(5):  # between asking for a free port and nginx taking it, somebody else may
        port = _free_port()
        config.write_text(_NGINX_CONFIG.format(directory=directory, port=port, user=user))
        process = subprocess.Popen(
            [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            text=True,
        )
        give_up = time.monotonic() + START_UP_S
        while process.poll() is None and not _listens(port) and time.monotonic() < give_up:
            time.sleep(0.02)
        if process.poll() is None and _listens(port):
            break
        _stop(process)
    else:
        pytest.fail(f"nginx did not start: {(directory / 'error.log').read_text()}")

    try:
        yield Nginx(directory, port)
    finally:
        _stop(process)


# --- httpbin


@pytest.fixture(scope="session")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, without a trailing slash, of a real httpbin under gunicorn with keep-alive connections."""
    log_path = tmp_path_factory.mktemp("httpbin") / "log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"),
                *("--worker-class", "gthread", "--workers", "1", "--threads", "32", "--keep-alive", "30"),
                *("--backlog", "2048", "--graceful-timeout", "1", "--no-control-socket", "httpbin:app"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        give_up = time.monotonic() + START_UP_S
        while True:
            found = re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", log_path.read_text())
            if found and "Booting worker" in log_path.read_text():
                break
            if process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"httpbin did not start; `make test` installs it. It said:\n{log_path.read_text()}")
            time.sleep(0.05)
        yield found[1]
    finally:
        _stop(process)


# --- the scripted server


@pytest.fixture(scope="session")
def testkit_program() -> Path:
    """The program `testkit`: `serve`, or `script FILE.json` for a server that behaves as ill as the file says."""
    path = os.environ.get("LOAMY_TESTKIT", "")
    if not os.access(path, os.X_OK):
        pytest.fail(f"LOAMY_TESTKIT ({path!r}) names no program; `make python` builds it and says where it is")
    return Path(path)
