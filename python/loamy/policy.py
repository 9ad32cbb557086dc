"""How a list of requests is sent: one frozen value, checked when it is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

__all__ = ["Policy", "Timeout"]


@dataclasses.dataclass(frozen=True)
class Timeout:
    """How long each phase of a row may take, in seconds; None is no limit.

    The clock of a row starts when it takes its slot, not while it waits for one.
    """

    acquire: float | None = None
    """From the slot to having a connection, the making of a new one included."""
    resolve: float | None = None
    """The look-up of the name."""
    connect: float | None = 30
    """The TCP connection, all addresses tried. 30 s, as the two older packages had it."""
    tls: float | None = None
    """The TLS handshake."""
    write: float | None = None
    """Between two advances in sending the request."""
    first_byte: float | None = None
    """From the request's last byte to the response's first."""
    read: float | None = None
    """Between two advances of the response."""
    total: float | None = 300
    """The row as a whole, redirects included. 300 s, as the two older packages had it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_seconds(f"timeout.{field.name}", getattr(self, field.name))


class PolicyFields(TypedDict, total=False):
    """The keywords that ``send``, ``stream`` and ``send_async`` take: the fields of `Policy`."""

    concurrency: int
    per_host: int | None
    threads: int | None
    timeout: Timeout | float | tuple[float | None, float | None] | Mapping[str, float | None] | None
    deadline: float | None
    follow_redirects: bool
    max_redirects: int
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None
    secret_headers: Sequence[str]
    max_body: int
    max_head: int
    max_fields: int


@dataclasses.dataclass(frozen=True)
class Policy:
    """How a list of requests is sent. Pass it as ``policy=``, or its fields as keywords.

    Raises:
        TypeError: for a field of the wrong type.
        ValueError: for a value out of range.

    Example:
        >>> loamy.send(urls, policy=Policy(concurrency=256, timeout=10))

    """

    concurrency: int = 100
    """Requests in flight at once, over all hosts. 100, as before; never more than the process may open descriptors."""
    per_host: int | None = None
    """Requests in flight at once for one scheme, host and port. None: only ``concurrency`` binds."""
    threads: int | None = None
    """Threads that work for this call at most. None: as many as there are cores and the work is worth."""
    timeout: Timeout | float | tuple[float | None, float | None] | Mapping[str, float | None] | None = (
        dataclasses.field(default_factory=Timeout)
    )
    """A number is the seconds that a row may take in all; a pair is (connect, read); a `Timeout` or a mapping names phases.
    None: no limit at all. A pair or a mapping leaves the other phases at their defaults."""
    deadline: float | None = None
    """Seconds that the whole call may take. Rows not sent by then end as ``not_sent``, rows in flight as ``timeout.total``."""
    follow_redirects: bool = True
    """Whether redirects are followed. Where not, the redirect itself is the response."""
    max_redirects: int = 10
    """Redirects followed for one row. 10, as before; one more ends the row as ``redirect``."""
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None
    """Headers for every row that does not set them itself."""
    secret_headers: Sequence[str] = ()
    """Names of headers dropped, with Authorization, Cookie and Proxy-Authorization, when a redirect leaves the origin."""
    max_body: int = 1 << 30
    """Bytes that a response's body may have, before and after decoding. 1 GiB: a guard of memory."""
    max_head: int = 256 << 10
    """Bytes that a response's head may have. 256 KiB: a guard of memory."""
    max_fields: int = 256
    """Headers that a response may have. 256: a guard of memory."""

    def __post_init__(self) -> None:
        for name, least, optional in _COUNTS:
            _check_count(name, getattr(self, name), least, optional)
        if not isinstance(self.follow_redirects, bool):
            raise TypeError(f"follow_redirects must be True or False, not {type(self.follow_redirects).__name__}")
        _check_seconds("deadline", self.deadline)
        object.__setattr__(self, "timeout", _timeout(self.timeout))
        object.__setattr__(self, "secret_headers", _names("secret_headers", self.secret_headers))
        if self.headers is not None:
            _check_headers(self.headers)


_COUNTS = (
    ("concurrency", 1, False),
    ("per_host", 1, True),
    ("threads", 1, True),
    ("max_redirects", 0, False),
    ("max_body", 0, False),
    ("max_head", 1, False),
    ("max_fields", 1, False),
)
_MOST = {"max_redirects": 65_535}


def resolve(door: str, policy: Policy | None, fields: Mapping[str, Any]) -> Policy:
    """Make the policy of a call out of ``policy=`` and its keywords, which win.

    Raises:
        TypeError: for a keyword that is unknown, naming the nearest one.

    """
    known = Policy.__dataclass_fields__
    for name in fields:
        if name not in known:
            raise TypeError(f"{door}() has no keyword {name!r}{nearest(name, [*known, 'policy', 'progress'])}")
    if policy is None:
        return Policy(**fields) if fields else _DEFAULT
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must be a loamy.Policy, not {type(policy).__name__}")
    return dataclasses.replace(policy, **fields) if fields else policy


def as_before(door: str, policy: Policy | None) -> Policy:
    """Make the policy of a contract class: the one given, or what the two older packages did.

    Raises:
        TypeError: for what is no policy.

    """
    return _AS_BEFORE if policy is None else resolve(door, policy, {})


def nearest(name: str, known: Sequence[str]) -> str:
    """Say which known name is meant, or which there are."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; is it {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _timeout(given: Any) -> Timeout:
    if isinstance(given, Timeout):
        return given
    if given is None:
        return Timeout(connect=None, total=None)
    if isinstance(given, tuple):
        if len(given) != 2:
            raise TypeError(f"timeout as a pair is (connect, read); this one has {len(given)} parts")
        return Timeout(connect=given[0], first_byte=given[1], read=given[1])
    if isinstance(given, Mapping):
        phases = Timeout.__dataclass_fields__
        for phase in given:
            if phase not in phases:
                raise TypeError(f"timeout has no phase {phase!r}{nearest(str(phase), list(phases))}")
        return Timeout(**cast("dict[str, float | None]", given))
    _check_seconds("timeout", given)
    return Timeout(total=given)


def _check_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if math.isnan(value) or value <= 0:
        raise ValueError(f"{name} is {value}; it must be above 0, or None for no limit")


def _check_count(name: str, value: Any, least: int, optional: bool) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be {least} or more")
    most = _MOST.get(name, (1 << 63) - 1)
    if value > most:
        raise ValueError(f"{name} is {value}; it must be {most} or less")


def _names(field: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{field} must be a sequence of names")
    return tuple(names)


def _check_headers(headers: Any) -> None:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if isinstance(pairs, (str, bytes)):
        raise TypeError(f"headers must be a mapping of str to str, not {type(pairs).__name__}")
    for pair in pairs:
        name, value = pair
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must map str to str; {name!r} does not")


_DEFAULT = Policy()
# The two older packages took the tenth redirect for one too many: the first answer counted as well (K11).
_AS_BEFORE = Policy(max_redirects=9)
