"""The servers that the clients are measured against, each on a core and a free port of its own."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import select
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness.processes import environment, pinned

SMALL_BODY = 197
LARGE_BODY = 64 * 1024
PATIENCE = 10.0

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections {connections}; use epoll; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=8 inactive=600s;
    open_file_cache_valid 600s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {home}/files;
        location = /json {{ default_type application/json; return 200 '{small}'; }}
        location = /large.bin {{ default_type application/octet-stream; }}
        location = /status {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Seen:
    """What a server has counted."""

    connections: int
    requests: int


def small_body() -> bytes:
    """A record as an API would answer it: 197 bytes of JSON."""
    record = {
        "id": 4711,
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "active": True,
        "score": 99.5,
        "tags": ["first", "engine"],
        "address": {"city": "London", "zip": "W1"},
        "note": "",
    }
    missing = SMALL_BODY - len(json.dumps(record))
    record["note"] = "x" * missing
    return json.dumps(record).encode()


class Nginx:
    """An nginx of our own: one worker, everything it writes in `home`."""

    def __init__(self, program: str, home: Path, core: int, descriptors: int) -> None:
        """Start it on `core` and wait until it answers.

        Raises:
            RuntimeError: It does not answer within 10 s.
        """
        files = home / "files"
        files.mkdir(parents=True, exist_ok=True)
        self.small = files / "small.json"
        self.large = files / "large.bin"
        self.small.write_bytes(small_body())
        self.large.write_bytes(bytes(i * 31 % 251 for i in range(LARGE_BODY)))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Started by root, the worker would else become a user who may not read our files.
        group = grp.getgrgid(os.getgid()).gr_name
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name} {group};" if os.geteuid() == 0 else ""
        configuration = home / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user=user,
                home=home,
                port=self.port,
                small=small_body().decode(),
                descriptors=descriptors,
                connections=descriptors - 100,
            )
        )
        with pinned(core):
            self.process = subprocess.Popen(
                [program, "-p", str(home), "-c", str(configuration), "-e", str(home / "error.log")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if get(f"{self.url}/json") != small_body() or get(f"{self.url}/large.bin") != self.large.read_bytes():
                    raise RuntimeError("nginx serves something else than it was told to")
                break
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"nginx does not answer ({error}); see {home / 'error.log'}") from error
                time.sleep(0.02)

    def begin(self) -> None:
        """Count from here."""
        self.before = self.counted()

    def seen(self) -> Seen:
        """What came since `begin`, whose own question counted as one of each."""
        now = self.counted()
        return Seen(now.connections - self.before.connections - 1, now.requests - self.before.requests - 1)

    def counted(self) -> Seen:
        """Connections and requests since the start, this question left out."""
        text = get(f"{self.url}/status").decode()
        counted = re.search(r"(\d+) (\d+) (\d+)\s*\n", text)
        if counted is None:
            raise RuntimeError(f"nginx's status page reads {text!r}")
        return Seen(int(counted[1]) - 1, int(counted[3]) - 1)

    def stop(self) -> None:
        """End it and wait for its end."""
        end(self.process)


class Testkit:
    """The project's own scripted server: its route ``/delay/1`` answers after one second.

    It says what it saw when it ends, so each client gets a new one.
    """

    def __init__(self, program: str, core: int) -> None:
        """Remember how to start it; `begin` does."""
        self.program = program
        self.core = core
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Start ``testkit serve`` and read the address that it prints.

        Raises:
            RuntimeError: It prints no address within 10 s.
        """
        self.stop()
        with pinned(self.core):
            self.process = subprocess.Popen(
                [self.program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        address = re.search(r"(?:[\d.]+|localhost):\d+", line)
        if address is None:
            self.stop()
            raise RuntimeError(f"testkit serve printed {line!r} instead of its address")
        self.url = f"http://{address[0]}"

    def seen(self) -> Seen:
        """What came since `begin`; it ends with that.

        Raises:
            RuntimeError: It says nothing, or does not end within 10 s.
        """
        assert self.process is not None
        try:
            said, _ = self.process.communicate(timeout=PATIENCE)
            counts = json.loads(said)["counts"]
            return Seen(counts["connections"], counts["requests"])
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            raise RuntimeError(f"testkit serve does not say what it saw: {error}") from error
        finally:
            self.stop()

    def stop(self) -> None:
        """End it, if it runs, and wait for its end."""
        if self.process is not None:
            end(self.process)
            self.process = None


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and kill it when it does not within 5 s."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> bytes:
    """The body at `url`, no proxy asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE) as response:
        body: bytes = response.read()
        return body
