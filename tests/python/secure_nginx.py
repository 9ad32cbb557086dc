"""A real nginx with certificates, on several ports: what a peer may speak, each on one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme
from daemon import free_port
from own_nginx import running_nginx

_HTTP = """
    log_format seen '$server_port $request_method $request_uri $server_protocol $connection';
    access_log {directory}/access.log seen;
    keepalive_requests 1000000;
    default_type application/json;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {directory}/good.pem;
    ssl_certificate_key {directory}/good.pem;
    {servers}
"""

_SERVER = """
    server {{
        listen 127.0.0.1:{port} {how} backlog=4096;
        {more}
        location / {{
            add_header X-Own-Thing one;
            add_header Set-Cookie a=1;
            add_header Set-Cookie b=2;
            return 200 '{{"method": "$request_method", "scheme": "$scheme", "args": "$args", "tls": "$ssl_protocol"}}';
        }}
        location = /down {{ return 302 http://127.0.0.1:{plain}/after; }}
        location = /over {{ return 302 /after; }}
    }}
"""

_STRANGER = "ssl_certificate {directory}/stranger.pem; ssl_certificate_key {directory}/stranger.pem;"
_OTHER_NAME = "ssl_certificate {directory}/other-name.pem; ssl_certificate_key {directory}/other-name.pem;"
_PORTS = {
    "plain": ("", ""),
    "http2": ("ssl http2", ""),
    "http1": ("ssl", ""),
    "prior_knowledge": ("http2", ""),
    "tls12": ("ssl http2", "ssl_protocols TLSv1.2;"),
    "stranger": ("ssl http2", _STRANGER),
    "other_name": ("ssl http2", _OTHER_NAME),
}


class Seen(NamedTuple):
    """One request, as nginx logged it."""

    port: int
    method: str
    target: str
    protocol: str
    connection: int


class SecureNginx:
    """A running nginx; its addresses have no trailing slash."""

    def __init__(self, directory: Path, ports: dict[str, int], ca: Path, other_ca: Path) -> None:
        self.ca = ca
        """The authority of all but `stranger`."""
        self.other_ca = other_ca
        """The authority of `stranger`."""
        self.ports = ports
        self._access_log = directory / "access.log"

    def url(self, name: str = "http2", path: str = "/") -> str:
        scheme = "http" if name in ("plain", "prior_knowledge") else "https"
        return f"{scheme}://127.0.0.1:{self.ports[name]}{path}"

    def seen(self) -> list[Seen]:
        """Every request answered so far."""
        parts = [line.split() for line in self._access_log.read_text().splitlines()]
        return [Seen(int(line[0]), line[1], line[2], line[3], int(line[4])) for line in parts]


def _write(path: Path, certificate: trustme.LeafCert) -> None:
    certificate.private_key_and_cert_chain_pem.write_to_path(str(path))


@contextlib.contextmanager
def running(directory: Path) -> Iterator[SecureNginx]:
    """Run nginx as long as the block lasts."""
    good, other = trustme.CA(), trustme.CA()
    _write(directory / "good.pem", good.issue_cert("127.0.0.1", "localhost"))
    _write(directory / "other-name.pem", good.issue_cert("elsewhere.test"))
    _write(directory / "stranger.pem", other.issue_cert("127.0.0.1"))
    ca, other_ca = directory / "ca.pem", directory / "other-ca.pem"
    good.cert_pem.write_to_path(str(ca))
    other.cert_pem.write_to_path(str(other_ca))
    ports = {name: free_port() for name in _PORTS}
    servers = "".join(
        _SERVER.format(port=ports[name], plain=ports["plain"], how=how, more=more.format(directory=directory))
        for name, (how, more) in _PORTS.items()
    )
    http = _HTTP.format(directory=directory, servers=servers)
    with running_nginx(directory, http, *ports.values()):
        yield SecureNginx(directory, ports, ca, other_ca)
