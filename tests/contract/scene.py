"""The stage a scenario plays on, the list of scenarios, and what is evened out before comparing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from door import Door, shortened
from scripted_server import Script, ScriptedServer, reply

Observation = dict[str, Any]
Play = Callable[[Door, "Scene"], Observation]


@dataclass(frozen=True)
class Scenario:
    name: str
    decisions: tuple[str, ...]
    """The rows of the K table that this scenario exercises, changed or not."""
    packages: tuple[str, ...]
    play: Play


SCENARIOS: dict[str, Scenario] = {}


def scenario(*decisions: str, only: str | None = None) -> Callable[[Play], Play]:
    """Enters a function into the list under its own name."""
    packages = (only,) if only else ("loamy", "zconcurrent")

    def enter(play: Play) -> Play:
        assert play.__name__ not in SCENARIOS, play.__name__
        SCENARIOS[play.__name__] = Scenario(play.__name__, decisions, packages, play)
        return play

    return enter


@dataclass
class Scene:
    """Starts servers for a scenario and remembers their ports."""

    example: str
    """The example of the original's own documentation."""
    servers: list[ScriptedServer] = field(default_factory=list)

    def server(self, script: Script | None = None) -> ScriptedServer:
        server = ScriptedServer(script or (lambda _request: reply()))
        self.servers.append(server)
        return server

    def even_out(self, value: Any) -> Any:
        """Replaces what must differ from run to run or from release to release. Nothing else may.

        - ports: the system picks them;
        - the default User-Agent: it is the name and version of the library (a user's own is compared);
        - the default Accept-Encoding: aiohttp lists the codings of the installed Python and packages,
          so it differs between two environments of the same release (a user's own is compared).
        """
        if isinstance(value, str):
            for index, server in enumerate(self.servers):
                port = "<port>" if index == 0 else f"<port {index + 1}>"
                value = value.replace(f":{server.port}", f":{port}")
            return shortened(value)
        if isinstance(value, list):
            return [self.even_out(item) for item in value]
        if isinstance(value, dict):
            evened = {name: self.even_out(item) for name, item in value.items()}
            if "other_headers" in evened:
                evened["other_headers"] = [_even_header(*pair) for pair in evened["other_headers"]]
            return evened
        return value


WHOLE = ("body", "headers")
LISTS = ("requests", "responses", "exceptions")


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Every single fact of an observation under its dotted path.

    Bodies, headers and errors stay whole; the members of the lists of requests, responses and
    exceptions are numbered, and the length stands beside them as `count`.
    """
    name = path.rpartition(".")[2]
    if name in LISTS and isinstance(value, list):
        items = [("count", len(value)), *((str(at), item) for at, item in enumerate(value))]
    elif isinstance(value, dict) and name not in WHOLE and "caught_as" not in value:
        items = list(value.items())
    else:
        return {path: value}
    facts: dict[str, Any] = {}
    for name, item in items:
        facts.update(flattened(item, f"{path}.{name}" if path else name))
    return facts


def _even_header(name: str, value: str) -> list[str]:
    if name == "user-agent":
        return [name, "<name and version>" if "/" in value else value]
    if name == "accept-encoding":
        offered = {coding.strip() for coding in value.split(",")}
        return [name, "<gzip, deflate and more>" if {"gzip", "deflate"} <= offered else value]
    return [name, value]
