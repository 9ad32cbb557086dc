"""What a row or a call can end with, as exceptions.

Each carries ``kind`` (a stable word such as ``timeout.connect``), ``in_doubt``, ``retryable``, ``attempts``, ``bytes_sent``,
``bytes_received``, ``response`` (what was received) and ``hint``. They pickle and copy, and each is also the builtin exception
that code written for other clients catches: ``except ConnectionError`` and ``except TimeoutError`` work.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ssl import SSLCertVerificationError, SSLError

    from loamy._loamy import Response
else:
    try:
        # The very classes of ssl, at a quarter of what importing it costs a short script.
        from _ssl import SSLCertVerificationError, SSLError
    except ImportError:
        from ssl import SSLCertVerificationError, SSLError

__all__ = [
    "LoamyError",
    "InvalidRequest",
    "Blocked",
    "DNSError",
    "ConnectError",
    "ProxyError",
    "TLSError",
    "CertificateError",
    "ConnectTimeout",
    "WriteTimeout",
    "ReadTimeout",
    "TotalTimeout",
    "ConnectionClosed",
    "Refused",
    "IncompleteResponse",
    "ProtocolError",
    "TooLarge",
    "DecodeError",
    "TooManyRedirects",
    "JSONDecodeError",
    "NotSent",
    "Cancelled",
    "InternalError",
    "HTTPStatusError",
    "FailedResponses",
    "BatchInterrupted",
    "JournalError",
    "TooManyRows",
    "InsecureWarning",
]


class LoamyError(Exception):
    """The parent of every error that a row can end with."""

    kind: str = "internal"
    """What went wrong, as a stable word, the same in reports and files."""
    in_doubt: bool = False
    """Whether the request may have taken effect at the server although no answer tells."""
    retryable: bool = False
    """Whether sending the row again can help and cannot do harm."""
    attempts: int = 0
    """How often the row was sent, or a connection tried for it."""
    earlier: tuple[str, ...] = ()
    """What became of the attempts before the last, such as ``("status 503", "timeout.connect")``."""
    bytes_sent: int = 0
    """Bytes of the last attempt that the operating system took."""
    bytes_received: int = 0
    """Bytes that came back in the last attempt."""
    response: Response | None = None
    """What was received: the head, and as much of the body as came."""
    hint: str | None = None
    """What a person can do about it."""
    host: str | None = None
    """The peer's host, for failures to connect."""
    port: int | None = None
    """The peer's port, for failures to connect."""
    request_map: Any = None
    """The RequestMap of the row, where ``zSession`` made the exception."""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        return message if self.hint is None else f"{message}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if isinstance(self, OSError) and self.errno is not None:
            state["errno"] = self.errno
        return _restore, (type(self), self.args, state)


class InvalidRequest(LoamyError, ValueError):
    """The row itself is wrong: its URL, method, a header, the body or an option. It was never sent."""

    kind = "bad_request"


class Blocked(LoamyError, ValueError):
    """A guard forbids the row: its scheme, or a redirect from https to http."""

    kind = "blocked"


class DNSError(LoamyError, ConnectionError):
    """The name has no address, or the look-up failed."""

    kind = "dns"


class ConnectError(LoamyError, ConnectionError):
    """No connection could be made; ``errno``, ``host`` and ``port`` say where it ended."""

    kind = "connect"


class ProxyError(LoamyError, ConnectionError):
    """The proxy refused or failed."""

    kind = "proxy"


class TLSError(LoamyError, ConnectionError, SSLError):
    """The TLS handshake failed."""

    kind = "tls.handshake"
    library: str = "SSL"
    """As ssl has it; always the same."""
    reason: str = ""
    """What happened, without kind and row. The words are ours: those of ssl are names of OpenSSL."""


class CertificateError(LoamyError, SSLCertVerificationError):
    """The peer's certificate is not trusted."""

    kind = "tls.certificate"
    library: str = "SSL"
    """As ssl has it; always the same."""
    reason: str = "CERTIFICATE_VERIFY_FAILED"
    """As ssl has it; always the same."""
    verify_code: int = 1
    """OpenSSL's number for "unspecified"; ``verify_message`` says more."""
    verify_message: str = ""
    """What is wrong with the certificate, without kind and row."""


class ConnectTimeout(LoamyError, TimeoutError, ConnectionError):
    """Time ran out before anything of the row was written: no slot, look-up, connection or handshake in time."""

    kind = "timeout.connect"


class WriteTimeout(LoamyError, TimeoutError):
    """The peer did not take the request in time."""

    kind = "timeout.write"


class ReadTimeout(LoamyError, TimeoutError):
    """The response did not begin in time, or paused for too long."""

    kind = "timeout.read"


class TotalTimeout(LoamyError, TimeoutError):
    """The row as a whole took too long."""

    kind = "timeout.total"


class ConnectionClosed(LoamyError, ConnectionError):
    """The connection ended before the response's head."""

    kind = "closed"


class Refused(LoamyError, ConnectionError):
    """The peer did not process the request, and said so."""

    kind = "refused"


class IncompleteResponse(LoamyError, ConnectionError):
    """The response ended early; what came of it is the ``response``."""

    kind = "incomplete"


class ProtocolError(LoamyError):
    """The response is malformed."""

    kind = "protocol"


class TooLarge(LoamyError):
    """The response's head, body or decoded body passes a limit."""

    kind = "too_large"


class DecodeError(LoamyError, ValueError):
    """The content coding could not be undone; the ``response`` has the bytes as they came."""

    kind = "decode"


class TooManyRedirects(LoamyError):
    """Too many redirects, or one that leads nowhere."""

    kind = "redirect"


class JSONDecodeError(LoamyError, json.JSONDecodeError):
    """The body is not JSON where JSON was asked for; the answer stands as ``response``."""

    kind = "not_json"

    def __init__(self, message: str = "", doc: str = "", pos: int = 0, *, hint: str | None = None) -> None:
        json.JSONDecodeError.__init__(self, message, doc, pos)
        self.args = (message,)
        if hint is not None:
            self.hint = hint


class NotSent(LoamyError):
    """The row was never sent: the deadline passed, the batch was interrupted, its host takes no more, or too many rows failed."""

    kind = "not_sent"


class Cancelled(LoamyError):
    """The row was interrupted in flight."""

    kind = "cancelled"


class InternalError(LoamyError, RuntimeError):
    """A bug in loamy, confined to this row."""

    kind = "internal"


class HTTPStatusError(LoamyError):
    """``raise_for_status`` met a status of 400 or above; ``response`` is the whole answer."""

    kind = "status"
    status_code: int = 0
    """The status received."""


class FailedResponses(LoamyError):
    """``raise_for_failures`` met rows that are not ok; ``responses`` has them."""

    kind = "failures"

    def __init__(self, message: str = "", responses: Sequence[Any] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.responses = responses


class BatchInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a batch; ``responses`` has every row, those never sent and those cut off in flight included."""

    def __init__(self, responses: list[Any]) -> None:
        self.responses = responses
        super().__init__()

    def __str__(self) -> str:
        answered = sum(map(_is_answer, self.responses))
        return (
            f"interrupted: {answered:,} of {len(self.responses):,} rows have their answer; every row is in the exception: "
            "`except loamy.BatchInterrupted as stop: stop.responses`, or `sys.last_value.responses` in a session"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.responses,)


def _is_answer(made: Any) -> bool:
    """Whether a door made it of a whole answer, without having an exception made only to be asked."""
    return not isinstance(made, BaseException) and getattr(made, "status_code", 1) != 0


class JournalError(LoamyError, RuntimeError):
    """The journal of a call cannot be used, or could not be written to its end.

    Before anything is sent, it is raised instead of sending. Later, nothing further is sent, the call ends, and ``responses`` has
    every row.
    """

    trouble: str = "system"
    """What is wrong: ``in_use``, ``other_input``, ``other_format``, ``network_file_system``, ``damaged`` or ``system``."""
    responses: list[Any] | None = None
    """Every row of a call that was under way; None where nothing was sent, and in a stream, which has yielded them."""

    def __init__(
        self,
        message: str = "",
        hint: str | None = None,
        trouble: str = "system",
        responses: list[Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble
        self.responses = responses


class TooManyRows(MemoryError, LoamyError):
    """What comes of a list of rows cannot fit into the memory that this process may have; nothing of it was sent.

    It is raised where even empty answers would not fit, so never for a list that might have.
    """

    rows: int = 0
    """How many rows there are; of an iterator, how many were drawn from it."""
    needed: int = 0
    """Bytes that so many outcomes need at the least."""
    limit: int = 0
    """Bytes that the process can have, swap included: by its limits, those of its control groups, or the machine's memory."""

    def __init__(
        self, message: str = "", hint: str | None = None, rows: int = 0, needed: int = 0, limit: int = 0
    ) -> None:
        LoamyError.__init__(self, message, hint=hint)
        self.rows, self.needed, self.limit = rows, needed, limit


class InsecureWarning(UserWarning):
    """A call, or rows of it, want ``verify=False``: their peers need not prove who they are. Once for each call."""


_BY_KIND: dict[str, type[LoamyError]] = {
    "bad_request": InvalidRequest,
    "blocked": Blocked,
    "dns": DNSError,
    "connect": ConnectError,
    "connect.refused": ConnectError,
    "connect.unreachable": ConnectError,
    "proxy": ProxyError,
    "tls.handshake": TLSError,
    "tls.certificate": CertificateError,
    "timeout.acquire": ConnectTimeout,
    "timeout.resolve": ConnectTimeout,
    "timeout.connect": ConnectTimeout,
    "timeout.tls": ConnectTimeout,
    "timeout.write": WriteTimeout,
    "timeout.first_byte": ReadTimeout,
    "timeout.read": ReadTimeout,
    "timeout.total": TotalTimeout,
    "closed": ConnectionClosed,
    "refused": Refused,
    "incomplete": IncompleteResponse,
    "protocol": ProtocolError,
    "too_large": TooLarge,
    "decode": DecodeError,
    "redirect": TooManyRedirects,
    "not_json": JSONDecodeError,
    "not_sent": NotSent,
    "cancelled": Cancelled,
    "internal": InternalError,
}

_State = tuple[bool, bool, int, int, int, "Response | None", "int | None", "str | None", "int | None", tuple[str, ...]]


def build(kind: str, message: str, hint: str | None, state: _State, reason: str | None = None) -> LoamyError:
    """Make the exception of an engine's error; called by the binding.

    ``reason`` is the message without kind and row, where ssl has an attribute for it.
    """
    error = _BY_KIND[kind](message)
    in_doubt, retryable, attempts, bytes_sent, bytes_received, response, errno, host, port, earlier = state
    error.__dict__.update(
        kind=kind,
        hint=hint,
        in_doubt=in_doubt,
        retryable=retryable,
        attempts=attempts,
        earlier=earlier,
        bytes_sent=bytes_sent,
        bytes_received=bytes_received,
        response=response,
        host=host,
        port=port,
    )
    if errno is not None and isinstance(error, OSError):
        error.errno = errno
    if reason is not None:
        error.__dict__["verify_message" if kind == "tls.certificate" else "reason"] = reason
    return error


def build_not_json(
    subject: tuple[str | None, str | None], text: str, reason: Any, response: Response
) -> JSONDecodeError:
    """Make the exception of a body that is not JSON; called by the binding."""
    detail = reason.msg if isinstance(reason, json.JSONDecodeError) else reason
    message = f"not_json: the body of {len(response.content):,} bytes is not JSON: {detail}"
    message = f"{message} ({subject[0]} {subject[1]}, status {response.status_code})"
    position = getattr(reason, "pos", 0)
    error = JSONDecodeError(message, text, position if isinstance(position, int) else 0)
    error.attempts = response.attempts
    error.earlier = response.earlier
    error.response = response
    return error


def build_status(subject: tuple[str | None, str | None], response: Response) -> HTTPStatusError:
    """Make the exception of a status of 400 and above; called by the binding."""
    error = HTTPStatusError(f"status {response.status_code} ({subject[0]} {subject[1]}, attempt {response.attempts})")
    error.status_code = response.status_code
    if response.over_budget:
        error.hint = "not sent again: the budget of retries of its host is used up"
    error.in_doubt = response.in_doubt
    error.attempts = response.attempts
    error.earlier = response.earlier
    error.response = response
    return error


def _restore(cls: type[LoamyError], args: tuple[Any, ...], state: dict[str, Any]) -> LoamyError:
    error = cls.__new__(cls)
    error.args = args
    own = dict(state)
    if "errno" in own and isinstance(error, OSError):
        error.errno = own.pop("errno")
    error.__dict__.update(own)
    return error
