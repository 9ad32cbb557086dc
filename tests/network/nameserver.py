"""A dnsmasq in a namespace, which writes down what it is asked."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from daemon import Daemon, program
from namespaces import SEARCHED, Namespace

_FAILING = """
import socket, sys
address, code = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, 53))
print("ready", flush=True)
while True:
    query, peer = server.recvfrom(4096)
    # RFC 1035 §4.1.1: the question back, as an answer, with the code given.
    server.sendto(query[:2] + bytes((0x81, 0x80 | code)) + query[4:6] + bytes(6) + query[12:], peer)
"""
"""An upstream server that answers every question with one code; dnsmasq passes it on, and has no such answer of its own."""


class NameServer:
    """The running dnsmasq, given the options that say what it knows."""

    def __init__(self, directory: Path, namespace: Namespace, address: str, *options: str) -> None:
        self._log = directory / "dnsmasq.log"
        self._log.touch()
        self._upstream: subprocess.Popen[str] | None = None
        self._namespace = namespace
        always = [
            *("--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--group=root"),
            *("--log-queries", f"--log-facility={self._log}", f"--pid-file={directory}/dnsmasq.pid"),
            f"--local=/{SEARCHED}/",
            *("--bind-interfaces", f"--listen-address={address}", "--except-interface=lo", "--cache-size=0"),
        ]
        command = [*namespace.inside, program("dnsmasq", "dnsmasq-base"), *always, *options]
        self._daemon = Daemon(command, directory / "dnsmasq.said")
        self._daemon.start(lambda: "started" in self._log.read_text())

    def fail_upstream(self, address: str, code: int) -> None:
        """Run, on another address of the namespace, a server to which dnsmasq may forward, and which fails all."""
        command = [*self._namespace.inside, sys.executable, "-c", _FAILING, address, str(code)]
        self._upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._upstream.stdout is not None and self._upstream.stdout.readline() == "ready\n"

    def asked(self) -> Counter[tuple[str, str]]:
        """How often it was asked which type of which name, those apart that the resolver made up by its search list."""
        time.sleep(0.05)
        questions = re.findall(r" query\[(\w+)\] (\S+) from ", self._log.read_text())
        return Counter((kind, name) for kind, name in questions if not name.endswith(SEARCHED))

    def said(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._daemon.stop()
        if self._upstream is not None:
            self._upstream.kill()
            self._upstream.communicate()
