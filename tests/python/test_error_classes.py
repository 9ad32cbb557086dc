"""The exceptions: their tree, their builtin parents, and that they survive being sent elsewhere."""

from __future__ import annotations

import builtins
import copy
import errno
import importlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import loamy
import loamy.errors
import pytest
from loamy._loamy import KINDS
from loamy.testing import TestServer

CLASSES = [one for one in vars(loamy.errors).values() if inspect.isclass(one) and issubclass(one, BaseException)]
CLASSES = [one for one in CLASSES if one.__module__ == "loamy.errors" and not issubclass(one, Warning)]


def named(name: str) -> type[BaseException]:
    module, _, own = name.rpartition(".")
    found: type[BaseException] = getattr(importlib.import_module(module) if module else builtins, own)
    return found


@pytest.mark.parametrize(("kind", "class_name", "parents"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_each_kind_has_the_class_and_parents_of_the_engines_table(
    kind: str, class_name: str, parents: list[str]
) -> None:
    cls = getattr(loamy, class_name)
    assert issubclass(cls, loamy.LoamyError)
    made = loamy.errors.build(kind, f"{kind}: m", "do", (True, False, 2, 3, 4, None, 111, "h", 80, ("status 503",)))
    assert type(made) is cls and made.kind == kind
    assert all(isinstance(made, named(parent)) for parent in parents)
    own = {base for base in cls.__mro__ if base.__module__ != "loamy.errors"}
    expected = {base for parent in parents for base in named(parent).__mro__} | {Exception, BaseException, object}
    assert own == expected, "no other builtin parents than the table's"
    assert (made.in_doubt, made.retryable, made.attempts, made.bytes_sent, made.bytes_received) == (
        True,
        False,
        2,
        3,
        4,
    )
    assert (made.host, made.port, made.hint) == ("h", 80, "do") and str(made) == f"{kind}: m\nhint: do"
    if isinstance(made, OSError):
        assert made.errno == 111


def test_the_table_has_every_kind_once() -> None:
    kinds = [kind for kind, _, _ in KINDS]
    assert len(kinds) == len(set(kinds)) == 28
    assert {class_name for _, class_name, _ in KINDS} | {
        "LoamyError",
        "HTTPStatusError",
        "FailedResponses",
        "JournalError",
        "TooManyRows",
        "BatchInterrupted",
    } == {one.__name__ for one in CLASSES}


def test_every_class_is_at_hand_and_documented() -> None:
    for one in CLASSES:
        assert getattr(loamy, one.__name__) is one and one.__name__ in loamy.__all__
        assert one.__name__ in loamy.errors.__all__ and inspect.cleandoc(one.__doc__ or "")


SAME = [
    "kind",
    "in_doubt",
    "retryable",
    "attempts",
    "earlier",
    "bytes_sent",
    "bytes_received",
    "hint",
    "host",
    "port",
    "request_map",
    "args",
]


def _pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    **{f"pickle{protocol}": _pickled(protocol) for protocol in range(2, 6)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize(("kind", "class_name", "parents"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_each_exception_survives_pickle_and_copy(
    kind: str, class_name: str, parents: list[str], copied: Callable[[Any], Any]
) -> None:
    before = loamy.errors.build(kind, f"{kind}: m", "do", (True, False, 2, 3, 4, None, 111, "h", 80, ("status 503",)))
    before.request_map = {"url": "u"}
    after = copied(before)
    assert type(after) is type(before) and str(after) == str(before) and repr(after) == repr(before)
    assert [getattr(after, name) for name in SAME] == [getattr(before, name) for name in SAME]
    assert getattr(after, "errno", None) == getattr(before, "errno", None)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_each_class_survives_pickle_and_copy_as_people_make_it(cls: Any, copied: Callable[[Any], Any]) -> None:
    before: Any
    if cls is loamy.BatchInterrupted:
        before = loamy.BatchInterrupted(["a", "b"])
    else:
        before = cls("what happened", hint="do this")
    before.note = [1]
    after = copied(before)
    assert type(after) is cls and str(after) == str(before) and after.args == before.args
    if cls is loamy.BatchInterrupted:
        assert after.responses == ["a", "b"]
    else:
        assert after.hint == "do this" and after.note == [1]


def test_real_errors_survive_with_their_partial_answer(server: TestServer, script: Callable[..., Any]) -> None:
    peer = script("read", r"send HTTP/1.1 206 Part\r\nX-Own: 1\r\nContent-Length: 10\r\n\r\nhel", "close")
    [response] = loamy.send([{"url": peer.url("/a"), "method": "POST", "json": {"a": 1}}])
    before: Any = response.error
    assert type(before) is loamy.IncompleteResponse and before.in_doubt
    for copied in COPIES.values():
        after: Any = copied(before)
        assert type(after) is loamy.IncompleteResponse and str(after) == str(before)
        assert after.in_doubt is True and after.retryable is False and after.attempts == 1
        assert (after.bytes_sent, after.bytes_received) == (before.bytes_sent, before.bytes_received)
        assert after.bytes_sent > 0 and after.bytes_received > 0
        partial: Any = after.response
        assert (partial.status_code, partial.content, partial.headers["x-own"]) == (206, b"hel", "1")
        assert partial.request == {"url": peer.url("/a"), "method": "POST", "json": {"a": 1}}


def test_status_and_list_errors_survive_with_their_responses(server: TestServer) -> None:
    responses = loamy.send([server.url("/status/404"), server.url("/status/503")])
    with pytest.raises(loamy.FailedResponses) as caught:
        responses.raise_for_failures()
    cause = caught.value.__cause__
    for copied in COPIES.values():
        after = copied(caught.value)
        assert [one.status_code for one in after.responses] == [404, 503] and str(after) == str(caught.value)
        status = copied(cause)
        assert status.status_code == 404 and status.response.status_code == 404


def test_json_errors_survive_with_document_and_position(server: TestServer) -> None:
    [response] = loamy.send([{"method": "POST", "url": server.url("/echo"), "content": b'{"a": 1,\n}'}])
    with pytest.raises(loamy.JSONDecodeError) as caught:
        response.json()
    for copied in COPIES.values():
        after = copied(caught.value)
        for name in ("msg", "doc", "pos", "lineno", "colno"):
            assert getattr(after, name) == getattr(caught.value, name), name
        assert after.response.content == b'{"a": 1,\n}'


def test_a_refused_connection_is_what_other_clients_code_catches(refused_port: int) -> None:
    [response] = loamy.send([f"http://127.0.0.1:{refused_port}/"])
    error = response.error
    for parent in (ConnectionError, OSError, loamy.ConnectError, loamy.LoamyError):
        assert isinstance(error, parent)
    assert isinstance(error, loamy.ConnectError)
    assert (error.errno, error.host, error.port) == (errno.ECONNREFUSED, "127.0.0.1", refused_port)
    assert error.retryable and not error.in_doubt and error.bytes_sent == 0 and error.response is None


@pytest.mark.parametrize(
    ("row", "in_doubt", "retryable"),
    [
        ({"method": "GET"}, False, True),
        ({"method": "HEAD"}, False, True),
        ({"method": "PUT", "json": 1}, False, True),
        ({"method": "DELETE"}, False, True),
        ({"method": "OPTIONS"}, False, True),
        ({"method": "POST", "json": 1}, True, False),
        ({"method": "PATCH", "json": 1}, True, False),
        ({"method": "POST", "json": 1, "headers": {"Idempotency-Key": "k"}}, False, True),
    ],
    ids=lambda value: value["method"] + ("-key" if "headers" in value else "") if isinstance(value, dict) else "",
)
def test_in_doubt_is_what_may_have_taken_effect(
    script: Callable[..., Any], row: dict[str, Any], in_doubt: bool, retryable: bool
) -> None:
    peer = script("read", "reset")
    [response] = loamy.send([{**row, "url": peer.url()}])
    error = response.error
    assert isinstance(error, loamy.ConnectionClosed)
    assert (error.in_doubt, error.retryable) == (in_doubt, retryable)
    assert error.bytes_sent > 0 and error.bytes_received == 0
    assert len(peer.seen()["requests"]) == response.attempts == 1


def test_a_body_that_cannot_be_decoded_leaves_status_headers_and_bytes(script: Callable[..., Any]) -> None:
    peer = script("read", "send-coded gzip status=201 cut=4 : hello hello hello", "close")
    [response] = loamy.send([peer.url()])
    assert isinstance(response.error, loamy.DecodeError) and isinstance(response.error, ValueError)
    partial = response.error.response
    assert partial is not None and partial.status_code == 201 and partial.content.startswith(b"\x1f\x8b")
    assert partial.headers["content-encoding"] == "gzip"
    assert response.status_code == 0, "it is no whole answer"
