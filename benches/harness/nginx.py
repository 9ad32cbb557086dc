"""nginx, with a port for each wire."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

from harness import certificates
from harness.processes import environment, pinned
from harness.servers import PATIENCE, Resource, Seen, end, free_port, get
from harness.wires import CIPHER, Task, Wire

SMALL_BODY = 197
LARGE_BODY = 64 * 1024
HUGE_BODY = 1024 * 1024 * 1024
ORIGINS = 1000
# Enough of both ends of a file to tell a cut or shifted one.
ENDS = 4096

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
    log_format resumed $ssl_session_reused;
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
    client_max_body_size 0;
    client_body_buffer_size 1m;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites {cipher};
    ssl_ecdh_curve X25519;
    ssl_session_cache off;
{servers}
}}
"""

SERVER = """
    server {{
        listen {listen} backlog=4096;
        {more}
        if ($server_protocol != "{protocol}") {{ return 505; }}
        root {home}/files;
        location = /json {{ default_type application/json; return 200 '{small}'; }}
        location = /large.bin {{ default_type application/octet-stream; }}
        location = /huge.bin {{ default_type application/octet-stream; }}
        location = /unsized.bin {{ alias {home}/files/huge.bin; addition_types *; add_after_body /nothing; }}
        location = /ending.bin {{
            alias {home}/files/huge.bin;
            addition_types *;
            add_after_body /nothing;
            chunked_transfer_encoding off;
        }}
        location = /nothing {{ return 200 ''; }}
        location = /close {{
            default_type application/json;
            keepalive_timeout 0;
            {log}
            return 200 '{small}';
        }}
        location /uploads/ {{ alias {home}/uploads/; dav_methods PUT; }}
        location = /status {{ stub_status; }}
    }}
"""


class Nginx:
    """An nginx of our own: one worker, everything it writes in `home`."""

    def __init__(self, program: str, openssl: str, home: Path, core: int, descriptors: int) -> None:
        """Start it on `core` and wait until it answers.

        Raises:
            RuntimeError: It does not answer within 10 s, or something else than it was told.
        """
        self.home = home
        self.files = home / "files"
        self.uploads = home / "uploads"
        self.listing = home / "origins.txt"
        self.closed = home / "closed.log"
        for folder in (self.files, self.uploads):
            folder.mkdir(parents=True, exist_ok=True)
        self.small = self.files / "small.json"
        self.large = self.files / "large.bin"
        self.huge = self.files / "huge.bin"
        self.small.write_bytes(small_body())
        self.large.write_bytes(bytes(i * 31 % 251 for i in range(LARGE_BODY)))
        write_huge(self.huge)
        self.roots, certificate, key = certificates.make(openssl, home / "certificates")
        self.ports = dict(zip(Wire, free_ports(len(Wire)), strict=True))
        addresses = [f"127.1.{i // 250}.{i % 250 + 1}:{self.ports[Wire.ORIGINS]}" for i in range(ORIGINS)]
        self.listing.write_text("".join(f"http://{address}/json\n" for address in addresses))
        # Started by root, the worker would else become a user who may not read our files.
        group = grp.getgrgid(os.getgid()).gr_name
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name} {group};" if os.geteuid() == 0 else ""
        configuration = home / "nginx.conf"
        version = version_of(program)
        configuration.write_text(
            CONFIGURATION.format(
                user=user,
                home=home,
                descriptors=descriptors,
                connections=descriptors - 100,
                certificate=certificate,
                key=key,
                cipher=CIPHER,
                servers="".join(self.server(wire, version) for wire in Wire),
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
                self.probe()
                break
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"nginx does not answer ({error}); see {home / 'error.log'}") from error
                time.sleep(0.02)

    def server(self, wire: Wire, version: tuple[int, ...]) -> str:
        """The part of the configuration that speaks `wire`, and nothing else on its port."""
        host = "0.0.0.0" if wire is Wire.ORIGINS else "127.0.0.1"
        listen = [f"{host}:{self.ports[wire]}"]
        more = []
        if wire.is_tls:
            listen.append("ssl")
        if wire.is_h2:
            # The parameter of `listen` became a directive of its own.
            if version >= (1, 25, 1):
                more.append("http2 on;")
            else:
                listen.append("http2")
        if wire is Wire.ORIGINS:
            more += ["allow 127.0.0.0/8;", "deny all;"]
        if wire.is_tls:
            more.append(f"ssl_session_tickets {'off' if wire is Wire.FRESH_H1 else 'on'};")
        return SERVER.format(
            listen=" ".join(listen),
            more=" ".join(more),
            protocol="HTTP/2.0" if wire.is_h2 else "HTTP/1.1",
            home=self.home,
            small=small_body().decode(),
            log=f"access_log {self.closed} resumed;" if wire.is_tls else "",
        )

    def probe(self) -> None:
        """Ask whether it serves what it was told to.

        Raises:
            OSError: It does not answer yet.
            RuntimeError: It serves something else.
        """
        plain = self.address(Wire.H1)
        if get(f"{plain}/json") != small_body() or get(f"{plain}/large.bin") != self.large.read_bytes():
            raise RuntimeError("nginx serves something else than it was told to")
        context = ssl.create_default_context(cafile=str(self.roots))
        for wire, protocol in ((Wire.TLS_H1, "http/1.1"), (Wire.TLS_H2, "h2")):
            context.set_alpn_protocols([protocol])
            chosen = handshake(context, self.ports[wire])
            if chosen != (CIPHER, protocol):
                raise RuntimeError(f"nginx chose {chosen} instead of {(CIPHER, protocol)}")

    def address(self, wire: Wire) -> str:
        """Scheme, host and port where `wire` is spoken."""
        return f"{'https' if wire.is_tls else 'http'}://127.0.0.1:{self.ports[wire]}"

    def resource(self, wire: Wire, path: str) -> Resource:
        """What is at `path`, over `wire`."""
        url = f"@{self.listing}" if wire is Wire.ORIGINS else self.address(wire) + path
        roots = self.roots if wire.is_tls else None
        if path.startswith("/uploads/"):
            return Resource(url, None, self.huge, roots)
        bodies = {"/json": self.small, "/close": self.small, "/large.bin": self.large}
        return Resource(url, bodies.get(path, self.huge), None, roots)

    def begin(self) -> None:
        """Count from here; what was uploaded before is gone."""
        for stored in self.uploads.iterdir():
            stored.unlink()
        # nginx appends to it, wherever its end is.
        os.truncate(self.closed, 0)
        self.before = self.counted()

    def check(self, task: Task) -> None:
        """See that what was to be uploaded is there.

        Raises:
            ValueError: It is not, or not whole.
        """
        if task.upload is not None and [ends(stored) for stored in self.uploads.iterdir()] != [ends(task.upload)]:
            raise ValueError("the server stored something else than what was to be uploaded")

    def seen(self) -> Seen:
        """What came since `begin`, whose own question counted as one of each."""
        now = self.counted()
        connections = now.connections - self.before.connections - 1
        resumed = self.closed.read_text().split().count("r")
        return Seen(connections, now.requests - self.before.requests - 1, resumed)

    def counted(self) -> Seen:
        """Connections and requests since the start, this question left out."""
        text = get(f"{self.address(Wire.H1)}/status").decode()
        counted = re.search(r"(\d+) (\d+) (\d+)\s*\n", text)
        if counted is None:
            raise RuntimeError(f"nginx's status page reads {text!r}")
        return Seen(int(counted[1]) - 1, int(counted[3]) - 1)

    def stop(self) -> None:
        """End it and wait for its end; nothing large stays behind."""
        end(self.process)
        for large in (self.huge, *self.uploads.iterdir()):
            large.unlink(missing_ok=True)


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


def write_huge(path: Path) -> None:
    """A body of 1 GiB: two ends to know it by, and between them a hole that takes no disk."""
    edge = bytes(i * 31 % 251 for i in range(ENDS))
    with path.open("wb") as file:
        file.write(edge)
        file.seek(HUGE_BODY - ENDS)
        file.write(edge[::-1])


def ends(path: Path) -> tuple[int, bytes, bytes]:
    """Length and both ends of a file."""
    with path.open("rb") as file:
        begins = file.read(ENDS)
        file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
        return path.stat().st_size, begins, file.read()


def version_of(program: str) -> tuple[int, ...]:
    """The version of an nginx."""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    number = re.search(r"nginx/([\d.]+)", done.stderr + done.stdout)
    if number is None:
        raise RuntimeError(f"{program} -v says {done.stderr!r}")
    return tuple(int(part) for part in number[1].split("."))


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


def handshake(context: ssl.SSLContext, port: int) -> tuple[str | None, str | None]:
    """The cipher and the protocol that a server on this machine chooses."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        cipher = encrypted.cipher()
        return cipher[0] if cipher else None, encrypted.selected_alpn_protocol()
