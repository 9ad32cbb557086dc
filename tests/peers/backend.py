"""What stands behind the servers under test and counts: an nginx that nobody restarts."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from daemon import Daemon, free_port, listens
from own_nginx import nginx_command

# What reads a body into a variable is the proxy, and what answers without one is `return`: hence two servers in one.
_HTTP = """
    log_format seen escape=json
        '{{"id":"$arg_id","method":"$request_method","version":"$http_x_version","status":$status,"body":"$request_body"}}';
    access_log off;
    default_type application/json;
    # It closes no connection of a server in front of it, so that none of those has a reason to ask a second time.
    keepalive_requests 10000000;
    keepalive_timeout 600;
    upstream answers {{ server 127.0.0.1:{inner}; keepalive 64; keepalive_requests 10000000; keepalive_timeout 600; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        client_body_buffer_size 64k;
        location / {{
            access_log {directory}/seen.log seen;
            return 200 '{{"id": "$arg_id", "method": "$request_method"}}';
        }}
        location /body {{
            access_log {directory}/seen.log seen;
            proxy_pass http://answers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen 127.0.0.1:{inner} backlog=4096;
        location / {{ return 200 '{{"id": "$arg_id", "method": "$request_method"}}'; }}
    }}
"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One request as it came to a server."""

    id: int
    method: str
    version: str
    """The protocol of the server in front, as that says it; empty where it says nothing."""
    body: str


class Backend:
    """The running nginx. `port` is where servers pass requests on to; `seen()` is what came."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._seen = directory / "seen.log"
        http = _HTTP.format(directory=directory, port=self.port, inner=free_port())
        self._daemon = Daemon(nginx_command(directory, http), directory / "said")
        self._daemon.start(lambda: listens(self.port))

    def forget(self) -> None:
        """Begin to count anew."""
        self._quiet()
        self._seen.write_text("")

    def seen(self) -> list[Seen]:
        """All requests since, once nothing more comes."""
        self._quiet()
        found = []
        for line in self._seen.read_text().splitlines():
            entry = json.loads(line)
            found.append(Seen(int(entry["id"]), entry["method"], entry["version"], entry["body"]))
        return found

    def stop(self) -> None:
        self._daemon.stop()

    def _quiet(self) -> None:
        """Wait until nothing more comes: a line is written a moment after its answer is, or long after, on a busy machine."""
        size = -1
        while not self._daemon.rests() or size != self._seen.stat().st_size:
            size = self._seen.stat().st_size
            time.sleep(0.1)
