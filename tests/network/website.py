"""An nginx in a namespace: what is asked of it is counted, in each protocol on a port of its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from certificates import Certificates
from daemon import Daemon
from namespaces import Namespace
from own_nginx import nginx_command
from protocols import ALL, Protocol

PORTS = {"h1": 80, "h1-tls": 443, "h2-tls": 8443, "h2c": 8080}
INNER_PORT = 8081

BLOB = 4_000_000
"""Bytes of `/blob`: more than all buffers on the way hold, so that the rest waits for the reader."""


class Website:
    """The running nginx. Every row has its number as ``id`` in its query."""

    def __init__(self, directory: Path, certificates: Certificates, namespace: Namespace) -> None:
        self.certificates = certificates
        self._namespace = namespace
        self._log = directory / "seen.log"
        (directory / "root").mkdir()
        (directory / "root" / "blob").write_bytes(b"b" * BLOB)
        (directory / "root" / "trickle").write_bytes(b"t" * 5_001)
        http = f"""
                log_format seen escape=json '{{"id":"$arg_id","method":"$request_method","connection":$connection}}';
                access_log {directory}/seen.log seen;
                ssl_certificate {certificates.chain};
                ssl_certificate_key {certificates.key};
                keepalive_requests 1000000;
                client_max_body_size 0;
                server {{
                    listen [::]:{PORTS["h1"]} ipv6only=off backlog=4096;
                    listen [::]:{PORTS["h1-tls"]} ipv6only=off ssl backlog=4096;
                    listen [::]:{PORTS["h2-tls"]} ipv6only=off ssl http2 backlog=4096;
                    listen [::]:{PORTS["h2c"]} ipv6only=off http2 backlog=4096;
                    root {directory}/root;
                    location / {{ return 200 "$arg_id"; }}
                    location = /closing {{ keepalive_timeout 0; return 200 "$arg_id"; }}
                    # A file is not for POST; an error page is for every method.
                    error_page 405 =200 $uri?$args;
                    location = /blob {{ }}
                    # What passes a request on reads it to its end first.
                    location = /upload {{ proxy_pass http://127.0.0.1:{INNER_PORT}; }}
                    # The first second's worth goes out at once, the last byte a second later.
                    location = /trickle {{ keepalive_timeout 0; limit_rate 5000; }}
                }}
                server {{
                    listen 127.0.0.1:{INNER_PORT};
                    access_log off;
                    location / {{ return 200 "$arg_id"; }}
                }}
        """
        self._daemon = Daemon([*namespace.inside, *nginx_command(directory, http)], directory / "said")
        self._daemon.start((directory / "nginx.pid").exists)

    def url(self, protocol: Protocol, host: str, path: str = "/") -> str:
        return f"{protocol.scheme}://{host}:{PORTS[protocol.name]}{path}"

    def rows(self, protocol: Protocol, host: str, count: int, path: str = "/", first: int = 0) -> list[dict[str, Any]]:
        """Rows by number; every third is a POST."""
        return [
            {"method": "GET", "url": self.url(protocol, host, f"{path}?id={number}")}
            if number % 3
            else {"method": "POST", "url": self.url(protocol, host, f"{path}?id={number}"), "json": {"row": number}}
            for number in range(first, first + count)
        ]

    def seen(self) -> Counter[int]:
        """How often each row came, once nothing more does."""
        size = -1
        while not self._daemon.rests() or size != self._log.stat().st_size:
            size = self._log.stat().st_size
            time.sleep(0.05)
        return Counter(int(json.loads(line)["id"]) for line in self._log.read_text().splitlines())

    def stop(self) -> None:
        self._daemon.kill()


assert set(PORTS) == {protocol.name for protocol in ALL}
