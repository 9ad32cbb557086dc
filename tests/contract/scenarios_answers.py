"""What the caller gets for each kind of answer."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import zlib
from typing import Any

from door import Door, plain
from scene import Observation, Scene, scenario
from scripted_server import Answer, Received, reply


def each(door: Door, scene: Scene, answers: dict[str, Answer], method: str = "GET") -> Observation:
    """Sends one request for each answer, alone, and tells what came back under the answer's name."""
    with scene.server(lambda request: answers[request.path[1:]]) as server:
        told = {name: door.one(f"{server.origin}/{name}", method) for name in answers}
        sent = [request.path[1:] for request in server.received]
    return {**told, "sent": {name: sent.count(name) for name in answers}}


@scenario()
def json_objects(door: Door, scene: Scene) -> Observation:
    nested: Any = {"depth": 0}
    for depth in range(60):
        nested = {"depth": depth, "within": [nested]}
    return each(
        door,
        scene,
        {
            "plain": reply(body=b'{"a": [1, 2.5, true, null], "b": {"c": "d"}}'),
            "spaces_around": reply(body=b' \r\n {"a": 1}\n '),
            "empty_object": reply(body=b"{}"),
            "unicode": reply(body='{"é": "日本 🎉", "esc": "\\u00e9\\ud83c\\udf89"}'.encode()),
            "charset_utf8": reply(content_type="application/json; charset=utf-8", body=b'{"a": 1}'),
            "charset_latin1": reply(content_type="application/json; charset=ISO-8859-1", body=b'{"a": "\xe9"}'),
            "charset_utf16": reply(content_type="application/json; charset=utf-16", body='{"a": "é"}'.encode("utf-16")),
            "charset_unknown": reply(content_type="application/json; charset=bogus", body=b'{"a": 1}'),
            "vendor_type": reply(content_type="application/vnd.api+json", body=b'{"a": 1}'),
            "upper_case_type": reply(content_type="Application/JSON", body=b'{"a": 1}'),
            "big_integers": reply(body=b'{"a": 18446744073709551616, "b": -9223372036854775809}'),
            "floats": reply(body=b'{"a": 1.0, "b": 1e3, "c": 0.1, "d": 1e400, "e": -0.0}'),
            "not_a_number": reply(body=b'{"a": NaN, "b": Infinity, "c": -Infinity}'),
            "same_key_twice": reply(body=b'{"a": 1, "b": 2, "a": 3}'),
            "deep": reply(body=json.dumps(nested).encode()),
            "large": reply(body=json.dumps({"a": "x" * 300_000}).encode()),
        },
    )


@scenario("K3")
def json_that_is_no_object(door: Door, scene: Scene) -> Observation:
    return each(
        door,
        scene,
        {
            "list": reply(body=b'[1, "two", {"three": 3}]'),
            "empty_list": reply(body=b"[]"),
            "string": reply(body=b'"text"'),
            "integer": reply(body=b"7"),
            "float": reply(body=b"2.5"),
            "true": reply(body=b"true"),
            "null": reply(body=b"null"),
        },
    )


@scenario("K2", "K3", "K9")
def bodies_that_are_not_json(door: Door, scene: Scene) -> Observation:
    return each(
        door,
        scene,
        {
            "html": reply(content_type="text/html; charset=utf-8", body="<p>é</p>".encode()),
            "html_with_json_inside": reply(content_type="text/html", body=b'{"a": 1}'),
            "html_latin1": reply(content_type="text/html; charset=ISO-8859-1", body=b"<p>\xe9</p>"),
            "html_server_error": reply(502, content_type="text/html", body=b"<h1>Bad</h1>"),
            "text": reply(content_type="text/plain", body=b"it works"),
            "no_type": reply(content_type=None, body=b"it works"),
            "called_json": reply(body=b"it works"),
            "cut_json": reply(body=b'{"a": '),
            "two_values": reply(body=b'{"a": 1} {"b": 2}'),
            "byte_order_mark": reply(body=b'\xef\xbb\xbf{"a": 1}'),
            "html_not_utf8": reply(content_type="text/html", body=b"<p>\xff</p>"),
            "octets": reply(content_type="application/octet-stream", body=b"\x00\xff\x10ab"),
            "json_not_utf8": reply(body=b'{"a": "\xff"}'),
        },
    )


@scenario("K2", only="loamy")
def undecoded_bytes_stay_at_hand(door: Door, scene: Scene) -> Observation:
    body = b"\x00\xff\x10ab"
    with scene.server(lambda _: reply(content_type="application/octet-stream", body=body)) as server:
        (response,) = door.raw([door.row(server.origin)])
    return {"content": [plain(getattr(response, "content", None))]}


@scenario("K5")
def json_under_another_type(door: Door, scene: Scene) -> Observation:
    return each(
        door,
        scene,
        {
            "text_plain": reply(content_type="text/plain", body=b'{"a": 1}'),
            "text_plain_charset": reply(content_type="text/plain; charset=utf-8", body='{"a": "é"}'.encode()),
        },
    )


@scenario("K4")
def empty_bodies(door: Door, scene: Scene) -> Observation:
    return each(
        door,
        scene,
        {
            "no_content": reply(204, content_type=None, body=b"", length=False),
            "no_content_json": reply(204, body=b"", length=False),
            "text": reply(content_type="text/plain", body=b""),
            "html": reply(content_type="text/html", body=b""),
            "no_type": reply(content_type=None, body=b""),
            "json": reply(body=b""),
            "blank_json": reply(body=b" \n"),
        },
    )


@scenario("K1", "K9")
def statuses_that_are_answers(door: Door, scene: Scene) -> Observation:
    statuses = (201, 202, 206, 299, 300, 304, 400, 401, 403, 404, 409, 418, 422, 500, 502, 503, 504)
    answers = {str(status): reply(status, body=b"" if status == 304 else b'{"s": %d}' % status) for status in statuses}
    return each(door, scene, answers)


@scenario("K20")
def too_many_requests(door: Door, scene: Scene) -> Observation:
    def refuse(_request: Received) -> Answer:
        return reply(429, b'{"slow": "down"}', headers=[("Retry-After", "1")])

    with scene.server(refuse) as server:
        told = door.send([door.row(f"{server.origin}/{index}") for index in range(5)])
        return {**told, "sent": len(server.received)}


@scenario()
def framing_and_codings(door: Door, scene: Scene) -> Observation:
    body = b'{"coded": "%s"}' % (b"abc" * 500)
    raw = zlib.compressobj(wbits=-15)
    chunked = [("Transfer-Encoding", "chunked")]
    chunks = Answer(
        reply(body=b"", headers=chunked, length=False).wire + b'7;ext=1\r\n{"a": 1\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n'
    )
    return each(
        door,
        scene,
        {
            "gzip": reply(body=gzip.compress(body, mtime=0), headers=[("Content-Encoding", "gzip")]),
            "deflate": reply(body=zlib.compress(body), headers=[("Content-Encoding", "deflate")]),
            "raw_deflate": reply(body=raw.compress(body) + raw.flush(), headers=[("Content-Encoding", "deflate")]),
            "identity": reply(headers=[("Content-Encoding", "identity")]),
            "chunked": chunks,
            "until_close": reply(length=False, then="close"),
            "informational": Answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + reply().wire),
            "no_reason": Answer(b"HTTP/1.1 200\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        },
    )


@scenario("K1", "K9", "K19")
def broken_answers(door: Door, scene: Scene) -> Observation:
    cut = reply(body=b'{"a": 1}')
    return each(
        door,
        scene,
        {
            "closed_without_answer": Answer(b"", "close"),
            "reset_without_answer": Answer(b"", "reset"),
            "closed_in_head": Answer(b"HTTP/1.1 200 OK\r\nContent-Ty", "close"),
            "closed_in_body": Answer(cut.wire[:-3], "close"),
            "closed_in_chunks": Answer(
                reply(body=b"", headers=[("Transfer-Encoding", "chunked")], length=False).wire + b'8\r\n{"a": 1}\r\n',
                "close",
            ),
            "no_http": Answer(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "close"),
            "corrupt_gzip": reply(body=b"no gzip at all", headers=[("Content-Encoding", "gzip")]),
        },
        method="POST",  # POST is never sent again, so each answer is given once
    )


@scenario("K1", only="loamy")
def head_of_a_failed_answer(door: Door, scene: Scene) -> Observation:
    cut = Answer(reply(body=b'{"a": 1}').wire[:-3], "close")
    with scene.server(lambda _: cut) as server:
        (response,) = door.raw([door.row(server.origin, "POST", {})])
    return {"kept": getattr(response.error, "response", None) is not None}


@scenario("K6", only="loamy")
def response_headers(door: Door, scene: Scene) -> Observation:
    extra = [("x-lower-name", "1"), ("X-UPPER-NAME", "2"), ("X-Twice", "one"), ("X-Twice", "two")]
    with scene.server(lambda _: reply(headers=extra)) as server:
        (response,) = door.raw([door.row(server.origin)])
    headers = response.headers
    told = {
        "is_dict": isinstance(headers, dict),
        "names": list(headers),
        "first_of_two": headers["X-Twice"].startswith("one"),
        "json": json.loads(json.dumps(headers)) == dict(headers),
        "copied": copy.copy(headers) == copy.deepcopy(headers) == dict(headers),
        "pickled_as_same_type": type(pickle.loads(pickle.dumps(headers))) is type(headers),
        "pickled": pickle.loads(pickle.dumps(headers)) == headers,
        "any_case": [headers.get(name) for name in ("X-Lower-Name", "x-LOWER-name", "X-Absent")],
        "contains_any_case": "x-upper-name" in headers,
        "all_values": None,
        "spelling_of_server": None,
    }
    if hasattr(headers, "get_list"):
        told["all_values"] = headers.get_list("x-twice")
    if hasattr(headers, "raw"):
        names = [pair[0] for pair in headers.raw]
        told["spelling_of_server"] = [n.decode() if isinstance(n, bytes) else n for n in names]
    return told
