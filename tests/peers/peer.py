"""A server under test, whichever it is: where it is, what it should answer, what it saw, and what an operator does to it."""

from __future__ import annotations

import abc
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from backend import Backend, Seen
from certificates import Certificates
from daemon import STOP_S, Daemon, free_port, listens, program
from own_nginx import nginx_command
from protocols import ALL, H2_TLS, H2C, Protocol


class Peer(abc.ABC):
    """A server on ports of its own, one for each protocol, which stay the same when it restarts."""

    speaks: tuple[Protocol, ...] = ALL
    posts_to = "/body"
    """The path that takes what is posted."""
    tells_bodies = True
    """Whether `seen` has the bodies; where it has not, the answers to what was posted have."""

    def __init__(self, directory: Path, certificates: Certificates, backend: Backend) -> None:
        self.directory = directory
        self.certificates = certificates
        self.backend = backend
        self.ports = {protocol: free_port() for protocol in self.speaks}
        self.daemon = Daemon(self.command(), directory / "said")

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The configuration written, and the program with its arguments."""

    def seen(self) -> list[Seen]:
        """What came to it since `forget`: what it passed on to the backend."""
        return self.backend.seen()

    def forget(self) -> None:
        """Begin to count anew."""
        self.backend.forget()

    def base(self, protocol: Protocol) -> str:
        return f"{protocol.scheme}://127.0.0.1:{self.ports[protocol]}"

    def row(self, protocol: Protocol, number: int) -> dict[str, Any]:
        """The row of that number: every third is a POST with a body of its own."""
        if number % 3:
            return {"url": f"{self.base(protocol)}/item?id={number}"}
        return {
            "method": "POST",
            "url": f"{self.base(protocol)}{self.posts_to}?id={number}",
            "json": {"row": number, "text": "é" * (number % 50)},
        }

    def is_answer(self, number: int, response: Any) -> bool:
        """Whether that is what the row of that number must be answered."""
        method = "GET" if number % 3 else "POST"
        return bool(response.json() == {"id": str(number), "method": method})

    def start(self) -> None:
        self.daemon.start(lambda: all(listens(port) for port in self.ports.values()))

    def reload(self) -> None:
        """What an operator does for a new configuration; returns once it was asked for."""
        self.daemon.tell(signal.SIGHUP)

    def stop_gracefully(self) -> None:
        """End it as it likes best; returns once it has ended."""
        self.daemon.tell(signal.SIGTERM)
        self.daemon.wait()

    def kill(self) -> None:
        """End it at once; returns once its ports are free."""
        self.daemon.kill()
        # A worker outlives the process it was waited for by a moment, and what starts on its port meanwhile cannot.
        give_up = time.monotonic() + STOP_S
        while any(listens(port) for port in self.ports.values()):
            assert time.monotonic() < give_up, f"somebody still listens {STOP_S} s after it was killed"
            time.sleep(0.01)

    def stop(self) -> None:
        self.daemon.stop()


class Nginx(Peer):
    """Debian's nginx: HTTP/1.1 and 2, with TLS and without."""

    def command(self) -> list[str]:
        ports = {protocol.name: port for protocol, port in self.ports.items()}
        return nginx_command(
            self.directory,
            f"""
                access_log off;
                ssl_certificate {self.certificates.chain};
                ssl_certificate_key {self.certificates.key};
                upstream backend {{ server 127.0.0.1:{self.backend.port}; keepalive 128; keepalive_requests 10000000; }}
                server {{
                    listen 127.0.0.1:{ports["h1"]} backlog=4096;
                    listen 127.0.0.1:{ports["h1-tls"]} ssl backlog=4096;
                    listen 127.0.0.1:{ports["h2-tls"]} ssl http2 backlog=4096;
                    listen 127.0.0.1:{ports["h2c"]} http2 backlog=4096;
                    location / {{
                        proxy_pass http://backend;
                        proxy_http_version 1.1;
                        proxy_next_upstream off;
                        proxy_set_header Connection "";
                        proxy_set_header X-Version $server_protocol;
                    }}
                }}
            """,
        )

    def stop_gracefully(self) -> None:
        self.daemon.tell(signal.SIGQUIT)
        self.daemon.wait()


class Apache(Peer):
    """Debian's Apache with mpm_event and mod_http2."""

    def command(self) -> list[str]:
        modules = Path("/usr/lib/apache2/modules")
        names = ("mpm_event", "authz_core", "headers", "proxy", "proxy_http", "socache_shmcb", "ssl", "http2")
        ports = {protocol.name: port for protocol, port in self.ports.items()}
        hosts = "\n".join(
            f"""
            <VirtualHost 127.0.0.1:{self.ports[protocol]}>
                Protocols {"h2" if protocol is H2_TLS else "h2c" if protocol is H2C else "http/1.1"}
                SSLEngine {"on" if protocol.scheme == "https" else "off"}
                SSLCertificateFile {self.certificates.chain}
                SSLCertificateKeyFile {self.certificates.key}
                RequestHeader set X-Version "expr=%{{SERVER_PROTOCOL}}"
                # A connection to the backend that is used once is never found dead, so nothing is passed on twice.
                ProxyPass / http://127.0.0.1:{self.backend.port}/ disablereuse=on
            </VirtualHost>"""
            for protocol in self.speaks
        )
        config = self.directory / "apache.conf"
        config.write_text(f"""
            {"".join(f"LoadModule {name}_module {modules}/mod_{name}.so" + chr(10) for name in names)}
            ServerRoot {self.directory}
            DefaultRuntimeDir {self.directory}
            PidFile {self.directory}/pid
            ErrorLog {self.directory}/error.log
            ServerName localhost
            {"".join(f"Listen 127.0.0.1:{port}" + chr(10) for port in ports.values())}
            {"User nobody" if os.geteuid() == 0 else ""}
            ListenBacklog 4096
            # A worker for each slot of a batch in each process: one that has none left closes connections that are kept alive,
            # in whatever instant the next POST comes.
            StartServers 2
            ServerLimit 8
            ThreadLimit 256
            ThreadsPerChild 256
            MaxRequestWorkers 512
            # Else it finds 512 idle threads too many, and ends a process in the midst of a batch.
            MaxSpareThreads 1024
            MaxKeepAliveRequests 1000
            GracefulShutdownTimeout 5
            {hosts}
        """)
        return [program("apache2", "apache2"), "-D", "FOREGROUND", "-f", str(config)]

    def reload(self) -> None:
        self.daemon.tell(signal.SIGUSR1)

    def stop_gracefully(self) -> None:
        self.daemon.tell(signal.SIGWINCH)
        self.daemon.wait()


class Haproxy(Peer):
    """Debian's haproxy."""

    def __init__(self, directory: Path, certificates: Certificates, backend: Backend) -> None:
        super().__init__(directory, certificates, backend)
        self._older: list[Daemon] = []

    def command(self) -> list[str]:
        ports = {protocol.name: port for protocol, port in self.ports.items()}
        tls = f"ssl crt {self.certificates.both}"
        config = self.directory / "haproxy.conf"
        config.write_text(f"""
global
    nbthread 1
    maxconn 4000
    stats socket {self.directory}/control level admin expose-fd listeners
    hard-stop-after 5s
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 0
frontend front
    bind 127.0.0.1:{ports["h1"]} backlog 4096
    bind 127.0.0.1:{ports["h1-tls"]} backlog 4096 {tls} alpn http/1.1
    bind 127.0.0.1:{ports["h2-tls"]} backlog 4096 {tls} alpn h2,http/1.1
    bind 127.0.0.1:{ports["h2c"]} backlog 4096 proto h2
    http-request set-header X-Version HTTP/%[req.ver]
    default_backend back
backend back
    server one 127.0.0.1:{self.backend.port}
""")
        return [program("haproxy", "haproxy"), "-db", "-f", str(config)]

    def reload(self) -> None:
        """A second process takes the sockets over from the first, and tells it to finish."""
        old = self.daemon
        self._older.append(old)
        hand_over = ["-x", str(self.directory / "control"), "-sf", str(old.pid)]
        self.daemon = Daemon([*self.command(), *hand_over], self.directory / "said")
        self.start()

    def stop_gracefully(self) -> None:
        self.daemon.tell(signal.SIGUSR1)
        self.daemon.wait()

    def stop(self) -> None:
        for daemon in (*self._older, self.daemon):
            daemon.stop()


class Nghttpd(Peer):
    """nghttp2's own server, which speaks one protocol: files for those who GET, and for those who POST what they sent."""

    speaks = (H2_TLS,)
    posts_to = "/0"
    tells_bodies = False
    FILES = 100

    def command(self) -> list[str]:
        root = self.directory / "root"
        root.mkdir(exist_ok=True)
        for number in range(self.FILES):
            (root / str(number)).write_text(json.dumps({"file": number}))
        [(protocol, port)] = self.ports.items()
        where = ["--no-tls", str(port)]
        if protocol is H2_TLS:
            where = [str(port), str(self.certificates.key), str(self.certificates.chain)]
        options = ["--verbose", "--echo-upload", f"--htdocs={root}", "--address=127.0.0.1"]
        return [program("nghttpd", "nghttp2-server"), *options, *where]

    def row(self, protocol: Protocol, number: int) -> dict[str, Any]:
        row = super().row(protocol, number)
        if number % 3:
            row["url"] = f"{self.base(protocol)}/{number % self.FILES}?id={number}"
        return row

    def is_answer(self, number: int, response: Any) -> bool:
        if number % 3:
            return bool(response.json() == {"file": number % self.FILES})
        return bool(response.json() == super().row(self.speaks[0], number)["json"])

    def seen(self) -> list[Seen]:
        methods: dict[str, str] = {}
        found = []
        for line in (self.directory / "said").read_text().splitlines():
            if heard := _HEARD.match(line):
                connection, number, name, value = heard.groups()
                stream = connection + number
                if name == "method":
                    methods[stream] = value
                elif "id=" in value:
                    found.append(Seen(int(value.partition("id=")[2]), methods.pop(stream), "HTTP/2", ""))
        return found

    def forget(self) -> None:
        # It appends to the file, so what it says next stands at the beginning.
        (self.directory / "said").write_text("")


class NghttpdPlain(Nghttpd):
    """The same without TLS."""

    speaks = (H2C,)


_HEARD = re.compile(r"(\[id=\d+\]) .*recv (\(stream_id=\d+\)) :(method|path): (.*)")
