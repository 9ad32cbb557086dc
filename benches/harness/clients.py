"""The clients: how each is started, what it is called, and how much work it gets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.environments import HERE, WORK, Environments
from harness.processes import Usage
from harness.wires import CIPHER, Task

PACE = 20_000
"""Rows a second of the clients that have a limit."""


@dataclass(frozen=True)
class Client:
    """One client of the table."""

    name: str
    needs: str
    """The program that it is started with, as `Environments.program` knows it."""
    command: Callable[[str, Task], list[str]]
    answered: Callable[[Usage, Task], int]
    """How many right answers its output proves; raises ValueError for a wrong one."""
    share: float = 1.0
    """The part of the requests it gets: slow clients need fewer for the same time."""
    timed: bool = False
    """Whether its count is one of seconds."""


def python(file: str, *more: str) -> Callable[[str, Task], list[str]]:
    """A client of ours in `clients/`."""

    def command(program: str, task: Task) -> list[str]:
        return [program, str(HERE / "clients" / file), *told(task), *more]

    return command


def engine(mode: str, *options: str) -> Callable[[str, Task], list[str]]:
    """The Rust engine; `mode` is ``run`` (a list is held) or ``stream`` (each response is dropped once checked)."""

    def command(program: str, task: Task) -> list[str]:
        return [program, mode, *told(task), *options]

    return command


def told(task: Task) -> list[str]:
    """The task on the command line of a client that is a program of this benchmark."""
    words = [task.url, str(task.count), str(task.connections), str(task.body) if task.body else "-"]
    if task.wire.is_h2:
        words += ["version=2", f"streams={task.streams}"]
    if task.upload:
        words.append(f"upload={task.upload}")
    return words


def reported(usage: Usage, task: Task) -> int:
    """The clients that check each answer themselves print one line of JSON at the end."""
    said = json.loads(usage.output.strip().splitlines()[-1])
    if said.get("wrong"):
        raise ValueError(f"{said['wrong']} wrong answers")
    return int(said["right"])


def h2load(program: str, task: Task) -> list[str]:
    """One thread; in HTTP/1.1 one request at a time on each connection, without pipelining."""
    connections = str(min(task.connections, task.count))
    protocol = ["-m", str(task.streams)] if task.wire.is_h2 else ["--h1"]
    return [program, *protocol, "-t", "1", "-n", str(task.count), "-c", connections, task.url]


def h2load_answered(usage: Usage, task: Task) -> int:
    """h2load counts statuses and bytes of bodies itself, and says what it spoke."""
    status = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", usage.output)
    traffic = re.search(r"\((\d+)\) data", usage.output)
    if status is None or traffic is None:
        raise ValueError(f"h2load printed {usage.output[-200:]!r}")
    if any(int(status[i]) for i in (2, 3, 4)):
        raise ValueError(status[0])
    right = int(status[1])
    if task.body is not None and int(traffic[1]) != right * task.body.stat().st_size:
        raise ValueError(f"{traffic[1]} bytes of bodies in {right} answers")
    spoken = {"h2", "h2c"} if task.wire.is_h2 else {"http/1.1"}
    for said, right_ones in (("Application protocol", spoken), ("Cipher", {CIPHER})):
        found = re.search(rf"{said}: (\S+)", usage.output)
        if found and found[1] not in right_ones:
            raise ValueError(found[0])
    return right


def wrk(program: str, task: Task) -> list[str]:
    """wrk knows no count, only whole seconds."""
    script = str(HERE / "clients" / "wrk.lua")
    return [program, "-t", "1", "-c", str(task.connections), "-d", f"{task.count}s", "-s", script, task.url]


def curl(program: str, task: Task) -> list[str]:
    """One process with a file of transfers, so many of them under way; a status above 399 ends it with an error."""
    urls = Path(task.url[1:]).read_text().split() if task.url.startswith("@") else [task.url]
    more = f'upload-file = "{task.upload}"\n' if task.upload else ""
    entries = [f'url = "{url}"\noutput = "/dev/null"\n{more}' for url in urls]
    listing = WORK / "curl.conf"
    listing.write_text("".join(entries[i % len(entries)] for i in range(task.count)))
    command = [program, "--disable", "--silent", "--show-error", "--fail", "--fail-early", "--parallel"]
    command.append("--http2" if task.wire.is_h2 else "--http1.1")
    return [*command, "--parallel-immediate", "--parallel-max", str(task.connections), "--config", str(listing)]


def curl_answered(usage: Usage, task: Task) -> int:
    """curl ends with 0 only when every transfer came whole and below 400; the server's count is checked besides."""
    if usage.output.strip():
        raise ValueError(f"curl printed {usage.output[-200:]!r}")
    return task.count


def known(name: str, needs: str, file: str, share: float = 1.0) -> Client:
    """A Python client."""
    return Client(name, needs, python(file), reported, share)


CLIENTS = {
    client.name: client
    for client in (
        Client("h2load", "h2load", h2load, h2load_answered),
        Client("wrk", "wrk", wrk, reported, timed=True),
        Client("curl", "curl", curl, curl_answered),
        Client("engine", "engine", engine("run"), reported),
        Client("engine-stream", "engine", engine("stream"), reported),
        # Limits: one that never binds, one that does; and the same with a record of what is done.
        Client("engine-wide", "engine", engine("stream", "rate=1000000000/s"), reported),
        Client("engine-paced", "engine", engine("stream", f"rate={PACE}/s"), reported),
        # The same pace without a limit: what being idle costs is not the limit's.
        Client("engine-offered", "engine", engine("stream", f"offered={PACE}"), reported),
        Client("engine-journal", "engine", engine("stream", f"journal={WORK / 'run.loamy'}"), reported),
        Client(
            "engine-paced-journal",
            "engine",
            engine("stream", f"rate={PACE}/s", f"journal={WORK / 'run.loamy'}"),
            reported,
        ),
        # Where too much is refused, one in fifty may be.
        Client("engine-fixed", "engine", engine("stream", "refusals=2"), reported),
        Client("engine-aimd", "engine", engine("stream", "refusals=2", "auto=aimd"), reported),
        Client("engine-gradient2", "engine", engine("stream", "refusals=2", "auto=gradient2"), reported),
        known("clump", "ours", "clump.py"),
        known("zsession", "ours", "zsession.py"),
        known("send", "ours", "send.py"),
        known("stream", "ours", "stream.py"),
        known("pycurl", "rivals", "pycurl_multi.py", 0.5),
        Client("pycurl-bare", "rivals", python("pycurl_multi.py", "bare"), reported, 0.5),
        known("floodr", "rivals", "floodr_list.py", 0.25),
        known("pyreqwest", "rivals", "pyreqwest_async.py", 0.15),
        known("aiohttp", "rivals", "aiohttp_uvloop.py", 0.1),
        known("loamy-0.0.10", "published", "clump.py", 0.1),
        known("httpx", "rivals", "httpx_async.py", 0.005),
        known("requests", "rivals", "requests_threads.py", 0.05),
    )
}


def prepare(client: Client, environments: Environments, task: Task) -> list[str]:
    """The command line of `client` for `task`.

    Raises:
        Missing: What it needs is not there.
    """
    return client.command(environments.program(client.needs), task)
