"""How a list of requests is sent: one frozen value, checked when it is built."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypedDict, cast

from loamy._loamy import Trust, is_secret_header

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
    tls: float | None = 30
    """The TLS handshake. 30 s, so that a peer that is silent in it does not hold its row for as long as `total`."""
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


_Bundle: TypeAlias = str | os.PathLike[str] | bytes


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
    verify: bool | str | os.PathLike[str] | bytes
    extra_ca: _Bundle | Sequence[_Bundle] | None
    tls_min: Literal["1.2", "1.3"]
    key_log: bool
    http_version: Literal["auto", "1.1", "2"]
    h2_connections: int | None
    h2_streams: int
    h2_ping: float | None
    allow_downgrade: bool


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
    verify: bool | str | os.PathLike[str] | bytes = True
    """Whose certificates are trusted. True: the system's (or those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name). A path or
    the bytes of PEM: those of this bundle *instead*. False: anybody's, with an `InsecureWarning`."""
    extra_ca: _Bundle | Sequence[_Bundle] | None = None
    """Certificates trusted *besides*: a path, the bytes of PEM, or a list of them. Files are read when the policy is built."""
    tls_min: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken. 1.2, since a good part of the servers has no other yet."""
    key_log: bool = False
    """Whether the secrets of connections are written to the file that ``SSLKEYLOGFILE`` names, to read recorded traffic."""
    http_version: Literal["auto", "1.1", "2"] = "auto"
    """``"auto"``: HTTP/2 with ``https`` peers that choose it in the handshake, else HTTP/1.1. ``"1.1"``: that alone. ``"2"``:
    that alone; ``http`` peers are then known to speak it."""
    h2_connections: int | None = None
    """HTTP/2 connections to one origin at most. None: as many as the rows in flight fill."""
    h2_streams: int = 100
    """Rows side by side on one HTTP/2 connection at most. 100, which most servers allow; their own limit holds besides."""
    h2_ping: float | None = 15.0
    """Seconds of silence after which an HTTP/2 peer that owes an answer is asked whether it is there, and in which it has to
    say so. 15, as most firewalls take longer to forget a connection. None: it is not asked."""
    allow_downgrade: bool = False
    """Whether a redirect may lead from ``https`` to ``http``. Where not, such a row ends as ``blocked``."""

    def __post_init__(self) -> None:
        for name, least, optional in _COUNTS:
            _check_count(name, getattr(self, name), least, optional)
        for name in ("follow_redirects", "allow_downgrade"):
            _check_flag(name, getattr(self, name))
        _check_seconds("deadline", self.deadline)
        _check_seconds("h2_ping", self.h2_ping)
        _check_choice("http_version", self.http_version, ("auto", "1.1", "2"))
        object.__setattr__(self, "timeout", _timeout(self.timeout))
        object.__setattr__(self, "secret_headers", _names("secret_headers", self.secret_headers))
        if self.headers is not None:
            _check_headers(self.headers)
        if isinstance(self.extra_ca, list):
            object.__setattr__(self, "extra_ca", tuple(self.extra_ca))
        self._trust  # noqa: B018 (it checks itself when it is made)

    @cached_property
    def _trust(self) -> Trust:
        """What the binding has read of the files; made anew wherever a pickle or a copy of the policy is first used."""
        return Trust(self.verify, self.extra_ca, self.tls_min, self.key_log)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        secret = {name.lower() for name in self.secret_headers}
        parts = (f"{field.name}={_shown(getattr(self, field.name), secret)}" for field in dataclasses.fields(self))
        return f"{type(self).__name__}({', '.join(parts)})"


_COUNTS = (
    ("concurrency", 1, False),
    ("per_host", 1, True),
    ("threads", 1, True),
    ("max_redirects", 0, False),
    ("max_body", 0, False),
    ("max_head", 1, False),
    ("max_fields", 1, False),
    ("h2_connections", 1, True),
    ("h2_streams", 1, False),
)
_MOST = {"max_redirects": 65_535}

_ELSEWHERE = {
    "cert": "client certificates are not supported",
    "ssl": "verify=False, verify='bundle.pem' or extra_ca='issuer.pem' say whom to trust",
}
"""What other clients call it, and no name of ours is near."""


def resolve(door: str, policy: Policy | None, fields: Mapping[str, Any]) -> Policy:
    """Make the policy of a call out of ``policy=`` and its keywords, which win.

    Raises:
        TypeError: for a keyword that is unknown, naming the nearest one.

    """
    known = Policy.__dataclass_fields__
    for name in fields:
        if name not in known:
            if name in _ELSEWHERE:
                raise TypeError(f"{door}() has no keyword {name!r}: {_ELSEWHERE[name]}")
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


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")


def _shown(value: Any, secret: set[str]) -> str:
    """Return the repr of a field's value without credentials and bundles."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, Mapping):
        pairs = (f"{name!r}: {_masked(name, own, secret)}" for name, own in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        parts = [
            f"({one[0]!r}, {_masked(one[0], one[1], secret)})" if isinstance(one, tuple) else _shown(one, secret)
            for one in value
        ]
        return f"[{', '.join(parts)}]" if isinstance(value, list) else f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    return repr(value)


def _masked(name: str, value: str, secret: set[str]) -> str:
    return "'***'" if is_secret_header(name) or name.lower() in secret else repr(value)


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
