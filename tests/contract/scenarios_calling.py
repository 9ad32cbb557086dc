"""The call as a whole: order, identity, failures, loops, connections, silence."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

from door import Door
from scene import Observation, Scene, scenario
from scripted_server import Answer, Received, reply


def refused_origin() -> str:
    """An origin on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def run_example(door: Door, scene: Scene, body: bytes) -> Observation:
    """Runs the documentation's example as it stands: its host is replaced and its imports are put before it."""
    with scene.server(lambda _: reply(body=body)) as server:
        code = scene.example.replace("https://baconipsum.com", server.origin)
        # The printed example forgets the object that holds the list.
        code = code.replace("in requestResponses:", "in reqResps.requestResponses:")
        # Executed as a module, because dataclasses and annotations look their module up.
        module = types.ModuleType("example")
        module.__dict__.update(vars(door.module))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "example", "exec"), module.__dict__)
        return {"printed": printed.getvalue().splitlines(), "requests": server.seen()}


@scenario()
def documentation_example(door: Door, scene: Scene) -> Observation:
    return run_example(door, scene, b'{"paragraphs": ["Bacon ipsum"]}')


@scenario("K3")
def documentation_example_with_the_list_its_host_answers(door: Door, scene: Scene) -> Observation:
    return run_example(door, scene, b'["Bacon ipsum"]')


def mixed_rows(door: Door, origin: str) -> list[Any]:
    return [
        door.row(f"{origin}/ok"),
        door.row(refused_origin()),
        door.row(f"{origin}/missing", "DELETE"),
        door.row(f"{origin}/html"),
        door.row(f"{origin}/ok", "PUT", {"a": 1}),
    ]


def mixed_script(request: Received) -> Answer:
    return {
        "/ok": reply(),
        "/missing": reply(404, b'{"error": "missing"}'),
        "/html": reply(content_type="text/html", body=b"<p>hello</p>"),
    }[request.path]


@scenario("K1", "K9", "K19")
def failures_beside_answers(door: Door, scene: Scene) -> Observation:
    with scene.server(mixed_script) as server:
        return door.send(mixed_rows(door, server.origin), return_exceptions=True)


@scenario("K1", "K19", only="loamy")
def nothing_is_raised_without_return_exceptions(door: Door, scene: Scene) -> Observation:
    with scene.server(mixed_script) as server:
        return door.send(mixed_rows(door, server.origin), return_exceptions=False)


@scenario("K9", only="zconcurrent")
def first_failure_is_raised(door: Door, scene: Scene) -> Observation:
    """The lower row fails a while before the other, and a slow answer is not waited for."""
    script = {
        "/ok": reply(),
        "/first": reply(content_type="text/html", body=b"<p>1</p>", delay=0.1),
        "/second": reply(content_type="text/html", body=b"<p>2</p>", delay=0.6),
        "/slow": reply(delay=5.0),
    }
    with scene.server(lambda request: script[request.path]) as server:
        rows = [door.row(server.origin + path) for path in ("/slow", "/ok", "/first", "/second")]
        started = time.monotonic()
        told = door.send(rows, return_exceptions=False)
        return {**told, "waited_for_slow": time.monotonic() - started > 2.5}


@scenario("K9", only="zconcurrent")
def lowest_row_is_raised_when_all_fail_at_once(door: Door, scene: Scene) -> Observation:
    rows = [door.row("not a url"), door.row("http://h/", headers={"A": "b\nc"}), door.row("not a url")]
    return door.send(rows, return_exceptions=False)


@scenario("K9", only="zconcurrent")
def nothing_to_raise(door: Door, scene: Scene) -> Observation:
    with scene.server() as server:
        return door.send([door.row(server.origin)], return_exceptions=False)


@scenario("K1", "K9", "K19")
def refused_connection(door: Door, scene: Scene) -> Observation:
    row = door.row(refused_origin())
    result = door.raw([row])
    error = door.responses(result)[0].error if door.is_loamy else result.taskExceptions[0]
    return {"error": door.error(error, [row]), "errno": getattr(error, "errno", None), "has_text": bool(str(error))}


@scenario("K9", "K19")
def urls_that_cannot_be_sent_to(door: Door, scene: Scene) -> Observation:
    urls = {
        "empty": "",
        "words": "not a url",
        "no_scheme": "127.0.0.1/x",
        "no_host": "http://",
        "port_too_large": "http://127.0.0.1:99999/",
        "open_bracket": "http://[::1/",
        "file": "file:///etc/hostname",
        "ftp": "ftp://127.0.0.1/x",
    }
    return {name: door.one(url) for name, url in urls.items()}


@scenario()
def order_is_the_order_of_the_list(door: Door, scene: Scene) -> Observation:
    def script(request: Received) -> Answer:
        number = int(request.path[1:])
        return reply(body=b'{"n": %d}' % number, delay=(19 - number) * 0.02)

    with scene.server(script) as server:
        rows = [door.row(f"{server.origin}/{number}") for number in range(20)]
        return door.send(rows)


@scenario("K7")
def request_objects_come_back_themselves(door: Door, scene: Scene) -> Observation:
    with scene.server() as server:
        row = door.row(server.origin)
        twice = door.raw([row, row])
        twin = door.row(server.origin)
        told = door.send([row, twin])
    held = [getattr(response, door.names.request) for response in door.responses(twice)]
    return {"same_object_twice": [request is row for request in held], "twins": told}


@scenario()
def lists_and_sessions(door: Door, scene: Scene) -> Observation:
    with scene.server() as server:
        row = door.row(server.origin)
        grown = [row]
        session = door.session(grown)
        grown.append(door.row(server.origin + "/2"))
        send = getattr(session, door.names.send)
        told = {
            "empty": door.send([]),
            "grown_after_construction": len(door.responses(send())),
            "sent_twice": len(door.responses(send(False))),
            "positional": len(door.responses(getattr(door.Session([row]), door.names.send)(True))),
            "keyword": len(door.responses(send(return_exceptions=True))),
        }
        told["requests"] = len(server.received)
    try:
        door.raw(None)
    except TypeError:
        told["none_is_a_type_error"] = True
    return told


@scenario("K10")
def inside_a_running_loop(door: Door, scene: Scene) -> Observation:
    with scene.server() as server:

        async def main() -> Observation:
            return door.send([door.row(f"{server.origin}/{index}") for index in range(3)])

        return asyncio.run(main())


@scenario("K10")
def outside_the_main_thread(door: Door, scene: Scene) -> Observation:
    told: Observation = {}
    with scene.server() as server:
        rows = [door.row(f"{server.origin}/{index}") for index in range(3)]
        thread = threading.Thread(target=lambda: told.update(door.send(rows)))
        thread.start()
        thread.join()
    return told


@scenario("K11")
def a_hundred_at_once(door: Door, scene: Scene) -> Observation:
    """Nobody is answered before the server has seen no new request for half a second."""
    waiting = threading.Condition()
    arrived = [0]

    def script(_request: Received) -> Answer:
        with waiting:
            arrived[0] += 1
            waiting.notify_all()
            while waiting.wait(timeout=0.5):
                pass
        return reply()

    with scene.server(script) as server:
        told = door.send([door.row(f"{server.origin}/{index}") for index in range(230)])
        answered = sum(response["status"] == 200 for response in told["responses"])
        return {"answered": answered, "most_connections": server.most_open, "requests": arrived[0]}


@scenario("K11")
def proxies_of_the_environment_are_not_used(door: Door, scene: Scene) -> Observation:
    with scene.server() as server, scene.server() as proxy:
        names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
        kept = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(names, proxy.origin))
        try:
            told = door.one(server.origin)
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
        return {"status": told["status"], "through_proxy": len(proxy.received)}


@scenario("K17")
def server_that_closes_after_two(door: Door, scene: Scene) -> Observation:
    """300 rows over connections that each end, unannounced, with the last byte of their second answer."""

    def script(request: Received) -> Answer:
        return reply(then="close_with_last_byte" if request.nth == 1 else "keep")

    told: Observation = {}
    for method in ("GET", "PUT", "POST"):
        with scene.server(script) as server:
            rows = [door.row(f"{server.origin}/{index}", method) for index in range(300)]
            result = door.send(rows)
            answered = sum(response["status"] == 200 for response in result["responses"])
            paths = [request.path for request in server.received]
        told[method] = {
            "all_answered": answered == 300,
            "each_at_most_once": len(paths) == len(set(paths)),
        }
    return told


@scenario("K17")
def connection_that_dies_under_a_reused_request(door: Door, scene: Scene) -> Observation:
    """The second request of a connection is read and never answered: it is sent once more, elsewhere."""

    def script(request: Received) -> Answer:
        if request.path == "/start":
            return reply(307, b"", headers=[("Location", "/next")])
        return Answer(b"", "close") if request.nth else reply()

    told: Observation = {}
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        with scene.server(script) as server:
            outcome = door.one(f"{server.origin}/start", method)
            paths = [request.path for request in server.received]
            told[method] = {
                "status": outcome["status"],
                "error": outcome["error"],
                "paths": paths,
                "connections": server.connections,
            }
    with scene.server(script) as server:
        # Whether a POST takes a connection that may be dead is the engine's choice; twice is not.
        door.one(f"{server.origin}/start", "POST")
        told["POST"] = {"paths": [request.path for request in server.received]}
    return told


@scenario("K17")
def connection_that_dies_under_every_request(door: Door, scene: Scene) -> Observation:
    """A fresh connection that dies unanswered ends the row: nothing is sent twice."""
    told: Observation = {}
    for method in ("GET", "PUT"):
        with scene.server(lambda _: Answer(b"", "close")) as server:
            outcome = door.one(f"{server.origin}/x", method)
            told[method] = {"error": outcome["error"], "requests": len(server.received)}
    return told


@scenario("K17", only="loamy")
def sendings_are_counted(door: Door, scene: Scene) -> Observation:
    def script(request: Received) -> Answer:
        if request.path == "/start":
            return reply(307, b"", headers=[("Location", "/next")])
        return Answer(b"", "close") if request.nth else reply()

    with scene.server(script) as server:
        (again,) = door.raw([door.row(f"{server.origin}/start")])
    with scene.server() as server:
        (once,) = door.raw([door.row(f"{server.origin}/next")])
    attempts = [getattr(response, "attempts", None) for response in (again, once)]
    return {"counted": None not in attempts, "more_when_sent_again": attempts[0] != attempts[1]}


@scenario("K19")
def nothing_is_printed_or_logged(door: Door, scene: Scene) -> Observation:
    """In a fresh process, because this one may have been told to log."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from door import Door; door = Door(sys.argv[2]);"
        "door.send([door.row(sys.argv[3]), door.row('not a url'), door.row(sys.argv[4], 'POST', {})])"
    )
    with scene.server(lambda _: reply(content_type="text/html", body=b"<p>")) as server:
        ran = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent), door.package, server.origin, refused_origin()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return {"code": ran.returncode, "out": ran.stdout, "err": ran.stderr, "requests": len(server.received)}
