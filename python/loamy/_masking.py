"""Requests and responses as text fit for a log: credentials masked, long values cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loamy._loamy import is_secret_header, masked_url

_LONGEST = 120
"""Characters that a value may take."""


def shown(struct: Any) -> str:
    """Return the repr of a contract class without its secrets."""
    parts = (f"{name}={_field(name, getattr(struct, name))}" for name in struct.__struct_fields__)
    return f"{type(struct).__name__}({', '.join(parts)})"


def _field(name: str, value: Any) -> str:
    # A method may be a URL by mistake.
    if name in ("url", "http_op", "httpOperation") and isinstance(value, str):
        return _cut(repr(masked_url(value)))
    if name == "headers":
        return _cut(_pairs(value, _is_secret))
    if name in ("query_params", "queryParams"):
        if isinstance(value, str):
            return _cut(repr(masked_url(f"?{value}")[1:]))
        return _cut(_pairs(value, _is_secret_parameter))
    if name in ("request_map", "requestMap"):
        return repr(value)
    if isinstance(value, (bytes, str)) and len(value) > _LONGEST:
        return (
            f"{_cut(repr(value[:_LONGEST]))} ({len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'})"
        )
    return _cut(repr(value))


def _pairs(value: Any, is_secret: Callable[[object], bool]) -> str:
    """Return the repr of a mapping or of pairs without their secrets."""
    if isinstance(value, Mapping):
        return repr({key: "***" if is_secret(key) else own for key, own in value.items()})
    if isinstance(value, (list, tuple)):
        return repr(type(value)(_pair(one, is_secret) for one in value))
    return repr(value)


def _pair(one: Any, is_secret: Callable[[object], bool]) -> Any:
    if isinstance(one, (list, tuple)) and len(one) == 2 and is_secret(one[0]):
        return (one[0], "***")
    return one


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and is_secret_header(name)


def _is_secret_parameter(name: object) -> bool:
    # What is secret in a query is decided in one place, which knows URLs.
    return isinstance(name, str) and masked_url(f"http://h/?{name}=shown").endswith("=***")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
