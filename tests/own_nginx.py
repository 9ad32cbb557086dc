"""nginx with a configuration of its own: whatever it writes stands in one directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from daemon import Daemon, listens, program

# As root, nginx's workers would become a user who may not enter a temporary directory of ours.
_USER = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""


@contextlib.contextmanager
def running_nginx(directory: Path, http: str, *ports: int) -> Iterator[None]:
    """Run it as long as the block lasts, which begins when it listens on the ports."""
    running = Daemon(nginx_command(directory, http), directory / "said")
    running.start(lambda: all(listens(port) for port in ports))
    try:
        yield
    finally:
        running.stop()


def nginx_command(directory: Path, http: str) -> list[str]:
    """Write a configuration whose block ``http`` holds this, and give the command that runs it in the foreground."""
    error_log = directory / "error.log"
    config = directory / "nginx.conf"
    config.write_text(f"""
        daemon off;
        worker_processes 1;
        pid {directory}/nginx.pid;
        error_log {error_log};
        {_USER}
        events {{ worker_connections 8192; }}
        http {{
            client_body_temp_path {directory}/body;
            proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/fastcgi;
            uwsgi_temp_path {directory}/uwsgi;
            scgi_temp_path {directory}/scgi;
            {http}
        }}
    """)
    return [program("nginx", "nginx"), "-p", str(directory), "-e", str(error_log), "-c", str(config)]
