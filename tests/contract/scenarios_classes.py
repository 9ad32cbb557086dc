"""The classes themselves: how they are built, compared, copied, stored, shown and refused."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

from door import Door, plain
from scenarios_calling import refused_origin
from scene import Observation, Scene, scenario
from scripted_server import reply

DOCUMENTED = {
    "loamy": {
        "RequestMap": ["url", "http_op", "body", "query_params", "headers"],
        "RequestResponse": ["request_map", "status_code", "body", "error"],
    },
    "zconcurrent": {
        "RequestMap": ["url", "httpOperation", "body", "queryParams", "headers"],
        "RequestResponse": ["requestMap", "statusCode", "body"],
    },
}


def attempt(act: Callable[[], Any]) -> Any:
    """What the act gives, or the name of the parent of its error that Python itself knows."""
    try:
        return act()
    except Exception as error:
        known = next(parent for parent in type(error).__mro__ if parent.__module__ == "builtins").__name__
        return f"<raises {known}>"


def fields(door: Door, cls: str, value: Any) -> dict[str, Any]:
    return {name: plain(getattr(value, name)) for name in DOCUMENTED[door.package][cls]}


@scenario("K7")
def construction(door: Door, scene: Scene) -> Observation:
    row, response = door.RequestMap, door.RequestResponse
    given = door.row("http://h/", "PUT", {"a": 1}, {"q": "1"}, {"H": "v"})
    failure = ValueError("x")
    return {
        "defaults": fields(door, "RequestMap", door.row("http://h/")),
        "keywords": fields(door, "RequestMap", given),
        "positional": attempt(lambda: row("http://h/", "PUT", {"a": 1}, {"q": "1"}, {"H": "v"}) == given),
        "response_keywords": fields(
            door,
            "RequestResponse",
            response(**{door.names.request: given, door.names.status: 200, "body": {"a": 1}}),
        ),
        "response_positional": attempt(lambda: response(given, 200, {"a": 1}).body),
        "error_is_fourth": attempt(lambda: door.is_loamy and response(given, 0, None, failure).error is failure),
        "url_missing": attempt(lambda: row(**{door.names.method: "GET"})),
        "method_missing": attempt(lambda: row(url="http://h/")),
    }


@scenario("K7")
def names_and_signatures(door: Door, scene: Scene) -> Observation:
    send = inspect.signature(getattr(door.Session, door.names.send)).parameters
    return {
        "session_parameters": [p for p in inspect.signature(door.Session).parameters if p == door.names.requests],
        "send_default": send["return_exceptions"].default,
        "send_positional": list(send).index("return_exceptions"),
        "send_kind": str(send["return_exceptions"].kind),
        "modules": {
            name: getattr(door.module, name).__module__
            for name in ("RequestMap", "RequestResponse", door.names.session)
        },
        "fields": {
            name: [have for have in getattr(door.module, name).__annotations__ if have in wanted]
            for name, wanted in DOCUMENTED[door.package].items()
        },
        "matches": attempt(lambda: list(door.RequestMap.__match_args__[:5])),
    }


@scenario("K7")
def structs_as_documented(door: Door, scene: Scene) -> Observation:
    row = door.row("http://h/", "PUT", {"a": 1})
    try:
        msgspec: Any = importlib.import_module("msgspec")
    except ModuleNotFoundError:
        return {"row": None, "response": None, "encoded": None, "decoded": None}
    encoded = msgspec.json.encode(row)
    return {
        "row": issubclass(door.RequestMap, msgspec.Struct),
        "response": issubclass(door.RequestResponse, msgspec.Struct),
        "encoded": json.loads(encoded),
        "decoded": msgspec.json.decode(encoded, type=door.RequestMap) == row,
    }


@scenario("K7", only="loamy")
def response_of_a_send_is_encodable(door: Door, scene: Scene) -> Observation:
    with scene.server(lambda _: reply(body=b'{"a": 1}')) as server:
        (response,) = door.raw([door.row(server.origin)])
    told = attempt(lambda: json.loads(importlib.import_module("msgspec").json.encode(response)))
    if isinstance(told, dict):
        told = {name: told.get(name) for name in ("status_code", "body", "error")}
    return {"encoded": [told]}


@scenario("K7", only="loamy")
def pydantic_methods(door: Door, scene: Scene) -> Observation:
    row = door.row("http://h/é", "PUT", {"a": [1]}, {"q": "1"})
    response = door.RequestResponse(request_map=row, status_code=200, body={"a": 1})
    acts: dict[str, Callable[[], Any]] = {
        "dump": row.model_dump,
        "dump_json": row.model_dump_json,
        "copy": lambda: row.model_copy() == row,
        "copy_update": lambda: row.model_copy(update={"url": "http://other/"}).url,
        "validate": lambda: (
            door.RequestMap.model_validate({"url": "http://h/", "http_op": "GET"}) == door.row("http://h/")
        ),
        "response_dump": lambda: {name: response.model_dump()[name] for name in DOCUMENTED["loamy"]["RequestResponse"]},
    }
    told: Observation = {}
    for name, act in acts.items():
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            value = plain(act())
        told[name] = {"value": [value], "warns_of_msgspec": any("msgspec" in str(w.message) for w in heard)}
    return told


@scenario("K7")
def equality_and_change(door: Door, scene: Scene) -> Observation:
    row, twin = door.row("http://h/", "PUT", {"a": 1}), door.row("http://h/", "PUT", {"a": 1})
    response = door.RequestResponse(**{door.names.request: row, door.names.status: 200})
    same = door.RequestResponse(**{door.names.request: twin, door.names.status: 200})
    told = {
        "equal": row == twin,
        "unequal": row == door.row("http://h/"),
        "equal_to_other_type": row == {"url": "http://h/"},
        "responses_equal": response == same,
        "hash": attempt(lambda: hash(row)),
    }
    row.url = "http://changed/"
    row.headers = {"A": "b"}
    response.body = {"b": 2}
    return {**told, "changed": [row.url, row.headers, response.body], "then_equal": row == twin}


@scenario("K7")
def copies_and_pickles(door: Door, scene: Scene) -> Observation:
    with scene.server(lambda _: reply(body=b'{"a": [1]}')) as server:
        row = door.row(server.origin, "PUT", {"a": 1}, headers={"A": "b"})
        result = door.raw([row])
        (response,) = door.responses(result)
    told = {
        "row_pickled": pickle.loads(pickle.dumps(row)) == row,
        "row_copied": copy.copy(row) == row and copy.deepcopy(row) == row,
        "deep_copy_shares_no_body": copy.deepcopy(row).body is not row.body,
        "response_pickled": pickle.loads(pickle.dumps(response)) == response,
        "response_copied": copy.copy(response) == response and copy.deepcopy(response) == response,
    }
    if not door.is_loamy:
        told["results_pickled"] = pickle.loads(pickle.dumps(result)) == result
    return told


@scenario("K19")
def errors_can_be_pickled(door: Door, scene: Scene) -> Observation:
    with scene.server(lambda _: reply(content_type="text/html", body=b"<p>")) as server:
        rows = [door.row(server.origin), door.row(refused_origin()), door.row("not a url")]
        result = door.raw(rows)
    errors = [response.error for response in result] if door.is_loamy else result.taskExceptions
    told = []
    for error in errors:
        kept = attempt(lambda error=error: pickle.loads(pickle.dumps(error)))  # type: ignore[misc]
        told.append(
            type(kept) is type(error)
            and str(kept) == str(error)
            and getattr(kept, "kind", None) == getattr(error, "kind", None)
        )
    return {"kept": dict(zip(("not_json", "refused", "bad_url"), told, strict=True))}


@scenario("K7", "K9")
def wrong_types_at_construction(door: Door, scene: Scene) -> Observation:
    """Built and sent: where each mistake is noticed, and as what."""
    with scene.server() as server:
        url = server.origin
        return {
            "url_integer": door.one(5),
            "url_none": door.one(None),
            "method_lower_case": door.one(url, "get"),
            "method_with_space": door.one(url, "GE T"),
            "method_integer": door.one(url, 5),
            "query_integer": door.one(url, query=5),
            "headers_list": door.one(url, headers=[1]),
            "header_value_integer": door.one(url, headers={"X-A": 5}),
            "requests": len(server.received),
        }


@scenario("K21")
def what_repr_shows(door: Door, scene: Scene) -> Observation:
    headers = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "id=s3cret"}
    secret = door.row("http://user:s3cret@h/x?token=s3cret", "GET", headers=headers)
    large = door.row("http://h/large", "PUT", {"a": "z" * 100_000})
    with scene.server(lambda _: reply(body=b'{"a": "%s"}' % (b"z" * 100_000))) as server:
        (response,) = door.responses(door.raw([door.row(server.origin, headers=headers)]))
    return {
        "secret_shown": {"request": "s3cret" in repr(secret), "response": "s3cret" in repr(response)},
        "cut": {"request": len(repr(large)) < 10_000, "response": len(repr(response)) < 10_000},
        "url_shown": "http://h/large" in repr(large),
        "class_shown": [repr(large).split("(")[0].strip("<"), repr(response).split("(")[0].strip("<")],
    }


@scenario(only="zconcurrent")
def results_are_a_dataclass(door: Door, scene: Scene) -> Observation:
    results = door.module.RequestResults
    made = results(requestResponses=[], taskExceptions=[])
    return {
        "fields": [field.name for field in dataclasses.fields(results)],
        "positional": results([], []) == made,
        "repr": repr(made),
        "missing": attempt(lambda: results()),
    }


@scenario()
def uvloop_extra(door: Door, scene: Scene) -> Observation:
    wanted = importlib.metadata.requires(door.package) or []
    uvloop = [line for line in wanted if re.match(r"uvloop\b", line)]
    extras = importlib.metadata.metadata(door.package).get_all("Provides-Extra") or []
    return {
        "offered": "uvloop" in extras,
        "requirements": len(uvloop),
        "under_the_extra": [bool(re.search(r"extra == ['\"]uvloop['\"]", line)) for line in uvloop],
    }


@scenario("K11")
def figures_too_slow_to_wait_for(door: Door, scene: Scene) -> Observation:
    """Seconds to connect and in all, read from where the package keeps them."""
    if not hasattr(door.module, "aiohttp"):
        timeout = importlib.import_module("loamy").Policy().timeout
        return {"connect": timeout.connect, "total": timeout.total}
    default = importlib.import_module("aiohttp.client").DEFAULT_TIMEOUT
    return {"connect": default.sock_connect, "total": default.total}
