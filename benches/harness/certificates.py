"""Certificates for one run: an authority of our own, and the server's, signed by it."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def make(openssl: str, home: Path) -> tuple[Path, Path, Path]:
    """Make them anew in `home`: the authority's certificate, the server's, and its key (P-256).

    Raises:
        RuntimeError: openssl refuses.
    """
    home.mkdir(parents=True, exist_ok=True)
    roots, roots_key = home / "authority.pem", home / "authority.key"
    server, server_key = home / "server.pem", home / "server.key"
    request = [openssl, "req", "-x509", *KEY]
    call([*request, "-subj", "/CN=bench authority", "-keyout", roots_key, "-out", roots])
    leaf = ["-subj", "/CN=localhost", "-addext", NAMES, "-addext", "basicConstraints=critical,CA:FALSE"]
    call([*request, *leaf, "-CA", roots, "-CAkey", roots_key, "-keyout", server_key, "-out", server])
    return roots, server, server_key


def call(command: list[str | Path]) -> None:
    """Run openssl, which says much and matters only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"no certificates: {done.stderr.strip().splitlines()[-1:]}")
