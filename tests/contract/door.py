"""Both public APIs behind one small door, and what they hand back turned into comparable values."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import json
import math
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple

STANDARD_ERRORS = (json.JSONDecodeError, ssl.SSLError, ssl.SSLCertVerificationError)


class Names(NamedTuple):
    """How one of the two packages spells the same things."""

    module: str
    session: str
    requests: str
    send: str
    method: str
    query: str
    request: str
    status: str


LOAMY = Names(
    "loamy.session", "Clump", "requests", "send_requests", "http_op", "query_params", "request_map", "status_code"
)
ZCONCURRENT = Names(
    "zconcurrent.zsession",
    "zSession",
    "requestMaps",
    "sendRequests",
    "httpOperation",
    "queryParams",
    "requestMap",
    "statusCode",
)


class Door:
    """The package under test, by its documented names only."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.is_loamy = package == "loamy"
        self.names = LOAMY if self.is_loamy else ZCONCURRENT
        self.module: Any = importlib.import_module(self.names.module)
        self.RequestMap: Any = self.module.RequestMap
        self.RequestResponse: Any = self.module.RequestResponse
        self.Session: Any = getattr(self.module, self.names.session)

    def row(self, url: Any, method: Any = "GET", body: Any = None, query: Any = None, headers: Any = None) -> Any:
        """A RequestMap; what is None is not passed at all."""
        given = {"url": url, self.names.method: method}
        optional = {"body": body, self.names.query: query, "headers": headers}
        given.update({name: value for name, value in optional.items() if value is not None})
        return self.RequestMap(**given)

    def session(self, rows: Any) -> Any:
        return self.Session(**{self.names.requests: rows})

    def raw(self, rows: Any, return_exceptions: bool = True) -> Any:
        """What the package itself hands back."""
        send = getattr(self.session(rows), self.names.send)
        return send(return_exceptions=return_exceptions)

    def responses(self, result: Any) -> list[Any]:
        """The response objects of a result of either package."""
        return list(result if self.is_loamy else result.requestResponses)

    def send(self, rows: list[Any], return_exceptions: bool = True) -> dict[str, Any]:
        """Sends all rows at once and tells everything that came back, in its order."""
        try:
            result = self.raw(rows, return_exceptions)
        except Exception as error:
            return {"raised": self.error(error, rows)}
        return self.describe(result, rows)

    def describe(self, result: Any, rows: list[Any]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "returned": type(result).__name__,
            "responses": [self.response(response, rows) for response in self.responses(result)],
        }
        if not self.is_loamy:
            told["exceptions"] = [self.error(error, rows) for error in result.taskExceptions]
        return told

    def one(self, *args: Any, **given: Any) -> dict[str, Any]:
        """Builds and sends a single row: status, body and error of either package in the same three fields.

        zConcurrent has no response for a row that failed: its status is then None.
        """
        try:
            row = self.row(*args, **given)
        except Exception as error:
            return {"refused_at_construction": self.error(error, [])}
        return self.send_one(row)

    def send_one(self, row: Any) -> dict[str, Any]:
        told = self.send([row])
        if "raised" in told:
            return told
        if self.is_loamy:
            (response,) = told["responses"]
        elif told["responses"]:
            (response,) = told["responses"]
            assert not told["exceptions"], told
            response["error"] = None
        else:
            (error,) = told["exceptions"]
            return {"status": None, "body": None, "error": error}
        assert response.pop("row") == 0, "the response of another request"
        return response  # type: ignore[no-any-return]

    def response(self, response: Any, rows: list[Any]) -> dict[str, Any]:
        told = {
            "row": place(getattr(response, self.names.request), rows),
            "status": plain(getattr(response, self.names.status)),
            "body": plain(response.body),
        }
        if self.is_loamy:
            headers = response.headers
            told["headers"] = None if headers is None else [list(pair) for pair in headers.items()]
            told["error"] = self.error(response.error, rows)
        return told

    def error(self, error: BaseException | None, rows: list[Any]) -> dict[str, Any] | None:
        """Class, the parents that the standard library knows, our kind, and whose row it was."""
        if error is None:
            return None
        cls = type(error)
        told = {
            "class": f"{cls.__module__}.{cls.__qualname__}",
            "caught_as": [parent.__name__ for parent in cls.__mro__ if _is_standard(parent)],
            "kind": plain(getattr(error, "kind", None)),
        }
        if not self.is_loamy:
            # In loamy the response that holds the error names the request already.
            told["row"] = place(getattr(error, "request_map", None), rows)
        return told


def _is_standard(parent: type) -> bool:
    if parent in (Exception, BaseException, object):
        return False
    return parent.__module__ == builtins.__name__ or parent in STANDARD_ERRORS


def place(request: Any, rows: Iterable[Any]) -> int | None:
    """The index of the first row that *is* this object: equality would hide a copy."""
    for index, row in enumerate(rows):
        if row is request:
            return index
    return None


def plain(value: Any) -> Any:
    """The value as JSON can carry it and `==` can compare it, with its type kept apart."""
    if isinstance(value, str):
        return shortened(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else f"<{value}>"
    if isinstance(value, bytes | bytearray):
        return {"<bytes>": shortened(bytes(value).decode("latin-1"))}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return f"<{type(value).__name__}>"


def shortened(text: str) -> str:
    """Long texts as length and digest: just as equal, and a difference stays readable."""
    if len(text) <= 1000:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"<{len(text)} characters, sha256 {digest}>"
