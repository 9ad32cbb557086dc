"""The warning of a call whose peers need not prove who they are."""

from __future__ import annotations

import sys
import warnings
from typing import Any, TypeAlias

from loamy.errors import InsecureWarning

Place: TypeAlias = tuple[str, int, str, dict[str | tuple[str, type[Warning], int], int]]
"""A line of code: file, number, module, and where that module notes what it was warned of."""

_MESSAGE = (
    "certificates are not verified (verify=False): whoever stands between you and the server can read and change what passes, "
    "credentials included; to trust an issuer of your own, pass extra_ca='path/of/its/certificate.pem' instead"
)
_OURS = ("loamy", "zconcurrent")
# A coroutine that was made a task has the event loop beneath it; who started that is meant.
_LOOPS = ("asyncio", "uvloop")


def warn(place: Place | None) -> None:
    """Warn at the line that made the call; called by the binding."""
    file, line, module, registry = place or here()
    warnings.warn_explicit(_MESSAGE, InsecureWarning, file, line, module, registry)


def here() -> Place:
    """Return the line of the user's code that has led here."""
    frame = sys._getframe()
    while frame.f_back is not None and _package(frame.f_globals) in (*_OURS, *_LOOPS):
        frame = frame.f_back
    space = frame.f_globals
    module = str(space.get("__name__", "<unknown>"))
    return frame.f_code.co_filename, frame.f_lineno, module, space.setdefault("__warningregistry__", {})


def _package(space: dict[str, Any]) -> str:
    return str(space.get("__name__", "")).partition(".")[0]
