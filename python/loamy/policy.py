"""How a list of requests is sent: one frozen value, checked when it is built."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, cast

from loamy._keywords import instead, nearest
from loamy._loamy import Trust, check_headers, check_rate, is_secret_header

__all__ = ["Policy", "PolicyFields", "Timeout"]


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
    """The row as a whole, redirects included; a retry has all of it anew. 300 s, as the two older packages had it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_seconds(f"timeout.{field.name}", getattr(self, field.name))


_Bundle: TypeAlias = str | os.PathLike[str] | bytes
_Timeouts: TypeAlias = Timeout | float | tuple[float | None, float | None] | Mapping[str, float | None] | None
_Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]] | None

if TYPE_CHECKING:
    _Given = TypeVar("_Given")
    _Kept = TypeVar("_Kept")

    class _Field(Generic[_Given, _Kept]):
        """A field that is given in many forms and kept in one, as type checkers are to see it."""

        def __init__(self, default: _Kept) -> None: ...
        def __get__(self, policy: object, owner: type | None = None) -> _Kept: ...
        def __set__(self, policy: object, value: _Given) -> None: ...


class PolicyFields(TypedDict, total=False):
    """The keywords that ``send``, ``stream`` and ``send_async`` take: the fields of `Policy`."""

    concurrency: int | Literal["auto"]
    per_host: int | None
    threads: int | None
    timeout: _Timeouts
    deadline: float | None
    retries: int
    retry_unsafe: bool
    backoff: float | tuple[float, float]
    max_pause: float
    governor: bool
    rate: str | None
    burst: int | None
    rate_per_host: str | None
    limits: Mapping[str, str] | None
    limits_per_host: Mapping[str, str] | None
    adaptive: Literal["aimd", "gradient2"] | None
    max_failures: int | None
    max_failures_per_host: int | None
    fail_fast: bool
    idempotency: Literal["auto"] | None
    job: str | None
    duplicates: Literal["send", "share"]
    hedge: bool | float
    follow_redirects: bool
    max_redirects: int
    headers: _Headers
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

    concurrency: int | Literal["auto"] = 100
    """Requests in flight at once, over all hosts. 100, as before; never more than the process may open descriptors. ``"auto"``: as
    many as each host bears, found on the way, and 100 at the most; `adaptive` says how, with any other most."""
    per_host: int | None = None
    """Requests in flight at once for one scheme, host and port. None: only ``concurrency`` binds."""
    threads: int | None = None
    """Threads that work for this call at most. None: as many as there are cores and the work is worth."""
    if TYPE_CHECKING:
        timeout: _Field[_Timeouts, Timeout] = _Field(Timeout())
    else:
        timeout: _Timeouts = dataclasses.field(default_factory=Timeout)
    """A number is the seconds that a row may take in all; a pair is (connect, read); a `Timeout` or a mapping names phases.
    None: no limit at all. A pair or a mapping leaves the other phases at their defaults."""
    deadline: float | None = None
    """Seconds that the whole call may take. Rows not sent by then end as ``not_sent``, rows in flight as ``timeout.total``."""
    retries: int = 0
    """How often a row is sent again at the most that failed, or was answered 408, 425, 429, 500, 502, 503 or 504. 0, as what a
    second sending does is for you to say; what provably had no effect is sent again all the same. Rows whose second sending could
    do harm (a POST without an ``Idempotency-Key``) are sent again only where nothing happened, as with 429. A host gets
    at most 10 retries, and one more for every five of its rows."""
    retry_unsafe: bool = False
    """Whether `retries` holds for all rows, so that a POST may take effect twice."""
    if TYPE_CHECKING:
        backoff: _Field[float | tuple[float, float], tuple[float, float]] = _Field((0.5, 20.0))
    else:
        backoff: float | tuple[float, float] = (0.5, 20.0)
    """Seconds that a row waits before it is sent again: a span drawn from nothing to a ceiling that doubles each time (full jitter),
    given as its first and its highest value, or as the first alone. Never earlier than ``Retry-After`` asks for."""
    max_pause: float = 60
    """The longest wait in seconds that a server may ask for. 60, as somebody may sit before it. Beyond it a row ends with the answer
    that it has, and those that wait for the host end as ``not_sent``. ``math.inf``: as long as it asks for."""
    governor: bool = True
    """Whether what servers say about their limits is obeyed: 429, and 503 with ``Retry-After``, pause the host for all rows, and a
    quota that is published (``RateLimit``, ``X-RateLimit-…``) paces it. True: rows sent against it would be refused."""
    rate: str | None = None
    """How fast rows are sent in all, such as ``"100/s"``, ``"500/min"`` or ``"5/2s"``: the limit named ``requests``. In every span W the
    server sees at most rate · W + `burst`. None: as fast as they go."""
    burst: int | None = None
    """How many rows may go at once after a silence, under `rate`. None: one, or what 5 ms of a high rate come to."""
    rate_per_host: str | None = None
    """The same as `rate` for each host on its own, or for each ``limit_key`` of rows that name one."""
    limits: Mapping[str, str] | None = None
    """Limits by name: ``{"requests": "500/min", "tokens": "40000/min"}``. Of ``requests`` each row costs 1, of any other what its
    ``cost`` says, and 1 without one."""
    limits_per_host: Mapping[str, str] | None = None
    """The same as `limits` for each host on its own, or for each ``limit_key`` of rows that name one."""
    adaptive: Literal["aimd", "gradient2"] | None = None
    """How the number of rows in flight is found for each host, with `concurrency` as the most. ``"aimd"``: one more a round while it
    goes well, a tenth less when rows are refused or take longer. ``"gradient2"``: by the quotient of the usual time and the last.
    None: as many as are free (or ``"aimd"`` with ``concurrency="auto"``)."""
    max_failures: int | None = None
    """After how many failed rows (an error, or a status of 400 and above) no further row is sent: those that wait end as ``not_sent``,
    those in flight are waited for. None: each row fares for itself."""
    max_failures_per_host: int | None = None
    """The same for one host, where only failures count that the next row may share: no connection, no answer, 408, 429, 5xx."""
    fail_fast: bool = False
    """Whether the first failed row is the last to be sent: ``max_failures=1``."""
    idempotency: Literal["auto"] | None = None
    """``"auto"``: POST and PATCH rows without an ``Idempotency-Key`` get one, made of the `job` and of the row's ``tag``, if that is a text or
    a whole number, or else of its place in the list. Such rows may then be retried; tags must differ, or the server takes one
    for the other. None: only rows that bring one have one, as not every server looks at it."""
    job: str | None = None
    """What tells the keys of this job from those of others: whoever runs the job of this name again sends the same keys, on any
    machine. None: a random one for each call, so that keys are the same in its retries, and in ``resend`` of what it
    returned, but not when the program is run again."""
    duplicates: Literal["send", "share"] = "send"
    """``"share"``: of GET, HEAD, OPTIONS and TRACE rows that ask for the very same the first is sent, and its answer is that of all; it
    is kept for those that may still come. ``"send"``: each is sent, as the list says."""
    hedge: bool | float = False
    """Whether a GET, PUT or other idempotent row that takes long gets a second try beside the first, of which the first answer
    counts: True, when it takes longer than 19 of 20 did so far; a number, after so many seconds. At most one row in twenty
    does. False, as it asks more of the server."""
    follow_redirects: bool = True
    """Whether redirects are followed. Where not, the redirect itself is the response."""
    max_redirects: int = 10
    """Redirects followed for one row. 10, as before; one more ends the row as ``redirect``."""
    if TYPE_CHECKING:
        headers: _Field[_Headers, tuple[tuple[str, str], ...] | None] = _Field(None)
    else:
        headers: _Headers = None
    """Headers for every row that does not set them itself; kept as pairs."""
    secret_headers: Sequence[str] = ()
    """Names of headers dropped, with Authorization, Cookie and Proxy-Authorization, when a redirect leaves the origin,
    be they of a row or of the policy."""
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
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        for name, choices, optional in _CHOICES:
            _check_choice(name, getattr(self, name), choices, optional)
        if self.concurrency != "auto":
            _check_concurrency(self.concurrency)
        _check_seconds("deadline", self.deadline)
        _check_seconds("h2_ping", self.h2_ping)
        self._check_conduct()
        object.__setattr__(self, "timeout", _timeout(self.timeout))
        object.__setattr__(self, "secret_headers", _names("secret_headers", self.secret_headers))
        if self.headers is not None:
            object.__setattr__(self, "headers", tuple(check_headers(self.headers)))
        if isinstance(self.extra_ca, list):
            object.__setattr__(self, "extra_ca", tuple(self.extra_ca))
        self._trust  # noqa: B018 (it checks itself when it is made)

    def _check_conduct(self) -> None:
        object.__setattr__(self, "backoff", _backoff(self.backoff))
        _check_span("max_pause", self.max_pause)
        if not isinstance(self.hedge, bool):
            _check_hedge(self.hedge)
        for name, named in (("rate", "limits"), ("rate_per_host", "limits_per_host")):
            rate, limits = getattr(self, name), getattr(self, named)
            if rate is not None:
                _check_rate(name, rate)
            if limits is not None:
                object.__setattr__(self, named, _limits(named, limits))
                if rate is not None and "requests" in limits:
                    raise ValueError(f"{name} and {named}['requests'] are the same limit; give one of them")
        if self.burst is not None and self.rate is None:
            raise ValueError("burst belongs to rate, which is not given")
        if self.job is not None and not isinstance(self.job, str):
            raise TypeError(f"job must be a str or None, not {type(self.job).__name__}")
        if self.job is not None:
            _check_text("job", self.job)
        if self.job == "":
            raise ValueError("job is empty; it must tell this job's keys from those of others")
        if self.job is not None and self.idempotency is None:
            raise ValueError('job is what keys are made of, and none are made; give idempotency="auto" too')

    @property
    def _slots(self) -> int:
        """The most rows in flight."""
        return 100 if self.concurrency == "auto" else self.concurrency

    def _of_call(self) -> Policy:
        """Return what one call goes by: with a job of its own, where its rows get keys and no job is named."""
        if self.idempotency is None or self.job is not None:
            return self
        import uuid

        return dataclasses.replace(self, job=str(uuid.uuid4()))

    def _without_keys(self) -> Policy:
        """Return the same, but that no keys are made."""
        return self if self.idempotency is None else dataclasses.replace(self, idempotency=None, job=None)

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
    ("retries", 0, False),
    ("burst", 1, True),
    ("max_failures", 1, True),
    ("max_failures_per_host", 1, True),
    ("per_host", 1, True),
    ("threads", 1, True),
    ("max_redirects", 0, False),
    ("max_body", 0, False),
    ("max_head", 1, False),
    ("max_fields", 1, False),
    ("h2_connections", 1, True),
    ("h2_streams", 1, False),
)
_MOST = {"max_redirects": 65_535, "retries": (1 << 32) - 1}
_FLAGS = ("follow_redirects", "allow_downgrade", "retry_unsafe", "governor", "fail_fast")
_CHOICES = (
    ("http_version", ("auto", "1.1", "2"), False),
    ("adaptive", ("aimd", "gradient2"), True),
    ("idempotency", ("auto",), True),
    ("duplicates", ("send", "share"), False),
)

_HIGHEST_BACKOFF = 20.0
"""Seconds; where `backoff` names its first ceiling alone."""


def resolve(door: str, policy: Policy | None, fields: Mapping[str, Any]) -> Policy:
    """Make the policy of a call out of ``policy=`` and its keywords, which win.

    Raises:
        TypeError: for a keyword that is unknown, naming the nearest one.

    """
    known = Policy.__dataclass_fields__
    for name in fields:
        if name not in known:
            raise TypeError(f"{door}() has no keyword {name!r}{instead(door, name, list(known))}")
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


def _backoff(given: Any) -> tuple[float, float]:
    if not isinstance(given, (tuple, list)):
        _check_span("backoff", given)
        return float(given), max(_HIGHEST_BACKOFF, float(given))
    if len(given) != 2:
        raise TypeError(f"backoff as a pair is (first, highest); this one has {len(given)} parts")
    for part in given:
        _check_span("backoff", part)
    first, highest = given
    if first > highest:
        raise ValueError(f"backoff begins at {first} s, which is above its highest, {highest} s")
    return float(first), float(highest)


def _limits(field: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{field} must be a mapping of names to rates, not {type(given).__name__}")
    for name, rate in given.items():
        if not isinstance(name, str):
            raise TypeError(f"{field} must have names of limits as keys, not {type(name).__name__}")
        _check_text(f"the name of a limit in {field}", name)
        if not name:
            raise ValueError(f"{field} has a limit without a name")
        _check_rate(f"{field}[{name!r}]", rate)
    return dict(given)


def _check_rate(field: str, rate: Any) -> None:
    if not isinstance(rate, str):
        raise TypeError(f"{field} must be a str such as '100/s' or '500/min', not {type(rate).__name__}")
    _check_text(field, rate)
    check_rate(field, rate)


def _check_text(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field} holds half of a surrogate pair, which has no UTF-8") from None


def _check_float(field: str, number: float) -> None:
    """Refuse a whole number that no float can hold."""
    try:
        float(number)
    except OverflowError:
        raise ValueError(f"{field} is too large a number") from None


def _check_hedge(value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"hedge must be True, False or a number of seconds, not {type(value).__name__}")
    _check_float("hedge", value)
    if math.isnan(value) or value <= 0:
        raise ValueError(f"hedge is {value}; it must be above 0, or every row would be sent twice")


def _check_span(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    _check_float(name, value)
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is {value}; it must be 0 or more")


def _check_concurrency(value: Any) -> None:
    if isinstance(value, str):
        raise ValueError(f"concurrency is {value!r}; it must be a whole number or 'auto'")
    _check_count("concurrency", value, 1, False)


def _check_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    _check_float(name, value)
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


def check_flag(name: str, value: object) -> None:
    """Refuse what is only taken for true or false.

    Raises:
        TypeError: with the name.

    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...], optional: bool) -> None:
    if value is None and optional:
        return
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


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name of a header (RFC 9110 §5.6.2)."""


def _names(field: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"{field} must be a sequence of names")
    # An iterator gives them once.
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{field} must be a sequence of names")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{field} holds {name!r}, which is no name of a header")
    return listed


_DEFAULT = Policy()
# The two older packages took the tenth redirect for one too many: the first answer counted as well (K11).
_AS_BEFORE = Policy(max_redirects=9)
