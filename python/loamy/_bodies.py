"""Bodies where the fast path has no answer: forms; other encodings, and what only ``json.loads`` decides."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from loamy._signals import is_handlers

_PLAIN = {"utf-8", "utf8", "us-ascii", "ascii"}


def loads(body: bytes, charset: str | None = None, **options: Any) -> Any:
    """Decode JSON in the charset given, or in what its first bytes say (RFC 8259 §8.1).

    Raises:
        ValueError: when it is not JSON.

    """
    if charset is None or charset.lower() in _PLAIN:
        return json.loads(body, **options)
    try:
        text = body.decode(charset)
    except (LookupError, Warning) as refused:
        if _is_handlers(refused):
            raise
        return json.loads(body, **options)
    return json.loads(text, **options)


def loads_as_before(body: bytes, charset: str | None = None) -> Any:
    """Decode JSON for the contract classes, which take a byte order mark for a mistake.

    Raises:
        ValueError: when it is not JSON.

    """
    return json.loads(body.decode()) if body.startswith(b"\xef\xbb\xbf") else loads(body, charset)


def decode(body: bytes, charset: str | None = None) -> str:
    """Decode text in the charset given, else UTF-8; what is no text becomes U+FFFD.

    A server may name any codec of Python, and some of them replace nothing, or warn.
    """
    try:
        return body.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError, Warning) as refused:
        if _is_handlers(refused):
            raise
        return body.decode("utf-8", "replace")


def _is_handlers(raised: Exception) -> bool:
    return raised.__traceback__ is not None and is_handlers(raised.__traceback__)


def form(pairs: list[tuple[Any, Any]]) -> str:
    """Encode pairs of name and value as a form; as in a query, what is None is left out."""
    said = []
    for name, value in pairs:
        if isinstance(value, (list, tuple)):
            value = [own for own in value if own is not None]
        if value is not None:
            said.append((name, value))
    return urlencode(said, doseq=True)
