"""Two machines made of one: network namespaces joined by a wire that drops, resets and loses as it is told."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import program

_numbers = itertools.count()

SEARCHED = "searched.test"
"""The domain in which the resolver looks for a name that is not there as it stands; nothing is there either."""

COMMAND_LIMIT_S = 20.0
"""What sets a network up takes milliseconds."""


def _command(*words: str, told: str | None = None) -> str:
    """Run what sets a network up; where this machine does not let it, the test fails and says why."""
    done = subprocess.run(words, input=told, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
    if done.returncode:
        pytest.fail(
            f"`{' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}\n"
            "these tests make network namespaces: they need root (or CAP_NET_ADMIN and CAP_SYS_ADMIN), iproute2 and nftables"
        )
    return done.stdout


def _ip(*words: str) -> str:
    return _command(program("ip", "iproute2"), *words)


class Namespace:
    """One side of the wire: programs run `inside` it, rules of nftables hold in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    @property
    def inside(self) -> list[str]:
        """What stands before a command that is to run in it."""
        return [program("ip", "iproute2"), "netns", "exec", self.name]

    def run(self, *words: str, told: str | None = None) -> str:
        return _command(*self.inside, *words, told=told)

    def give_address(self, *addresses: str) -> None:
        """Give its end of the wire further addresses, each with the length of its prefix."""
        for address in addresses:
            # Without duplicate detection an IPv6 address is of use at once.
            _ip("-n", self.name, "address", "add", address, "dev", "wire", *(["nodad"] if ":" in address else []))

    def route(self, prefix: str) -> None:
        """Say that addresses of the prefix are at the other end of the wire."""
        _ip("-n", self.name, "route", "add", prefix, "dev", "wire")

    def set(self, name: str, value: str) -> None:
        """Set a variable of its kernel."""
        path = f"/proc/sys/{name.replace('.', '/')}"
        self.run("sh", "-c", 'printf %s "$2" > "$1"', "sh", path, value)

    def resolve_with(self, address: str, *options: str) -> None:
        """Let programs inside it ask the name server there, and nobody else."""
        etc = Path("/etc/netns") / self.name
        with _allowed():
            etc.mkdir(parents=True, exist_ok=True)
            # Without a search list the system takes the domain of this machine's name for one.
            lines = [f"search {SEARCHED}", f"nameserver {address}", f"options {' '.join(options)}"]
            (etc / "resolv.conf").write_text("\n".join(lines) + "\n")
            if Path("/etc/nsswitch.conf").exists():
                (etc / "nsswitch.conf").write_text("hosts: files dns\n")

    def rule(self, hook: str, rule: str) -> None:
        """Add a rule of nftables to what comes in (`input`) or goes out (`output`)."""
        table = f"add table inet faults\nadd chain inet faults {hook} {{ type filter hook {hook} priority 0; policy accept; }}\n"
        self.run(program("nft", "nftables"), "-f", "-", told=f"{table}add rule inet faults {hook} {rule}\n")

    def forget_rules(self) -> None:
        self.run(program("nft", "nftables"), "flush", "ruleset")

    def packets(self) -> list[int]:
        """How many packets each rule with a counter has met, in the order of the rules."""
        ruleset: dict[str, Any] = json.loads(self.run(program("nft", "nftables"), "--json", "list", "ruleset"))
        parts = [part for entry in ruleset["nftables"] for part in entry.get("rule", {}).get("expr", [])]
        return [part["counter"]["packets"] for part in parts if "counter" in part]

    def remove(self) -> None:
        etc = Path("/etc/netns") / self.name
        for path in etc.glob("*"):
            path.unlink()
        with contextlib.suppress(OSError):
            etc.rmdir()
            etc.parent.rmdir()
        _ip("netns", "delete", self.name)


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        pytest.fail(f"these tests write the resolver's files of a namespace, for which they need root: {error}")


class Network:
    """`client` and `server`, and the wire between them, which speaks IPv4 and IPv6."""

    CLIENT, SERVER = "10.87.0.1", "10.87.0.2"

    def __init__(self) -> None:
        # Unique among runs at the same time, and what one that was killed left behind is in nobody's way.
        name = f"loamy-{os.getpid()}-{next(_numbers)}"
        with contextlib.ExitStack() as undo:
            self.client = Namespace(f"{name}-client")
            undo.callback(self.client.remove)
            self.server = Namespace(f"{name}-server")
            undo.callback(self.server.remove)
            ends = ["netns", self.client.name, "type", "veth", "peer", "name", "wire", "netns", self.server.name]
            _ip("link", "add", "wire", *ends)
            for side, address in ((self.client, self.CLIENT), (self.server, self.SERVER)):
                side.give_address(f"{address}/16")
                _ip("-n", side.name, "link", "set", "wire", "up")
            self._undo = undo.pop_all()

    def remove(self) -> None:
        self._undo.close()
