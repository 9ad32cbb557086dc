"""A list of HTTP requests goes in; one outcome per request comes out, in order, whatever happened on the way.

Example:
    >>> import loamy
    >>> for response in loamy.send(["http://127.0.0.1:8080/1", ("POST", "http://127.0.0.1:8080/2")], timeout=10):
    ...     print(response.index, response.status_code, response.error)

"""

from __future__ import annotations

import atexit
import logging

from loamy._loamy import Response, __version__, optimised, shut_down
from loamy._rows import Row
from loamy._send import send, send_async, stream
from loamy.errors import (
    BatchInterrupted,
    Blocked,
    Cancelled,
    CertificateError,
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    DecodeError,
    DNSError,
    FailedResponses,
    HTTPStatusError,
    IncompleteResponse,
    InsecureWarning,
    InternalError,
    InvalidRequest,
    JournalError,
    JSONDecodeError,
    LoamyError,
    NotSent,
    ProtocolError,
    ProxyError,
    ReadTimeout,
    Refused,
    TLSError,
    TooLarge,
    TooManyRedirects,
    TooManyRows,
    TotalTimeout,
    WriteTimeout,
)
from loamy.headers import Headers
from loamy.policy import Policy, PolicyFields, Timeout
from loamy.progress import Progress
from loamy.responses import Responses

__all__ = [
    "send",
    "stream",
    "send_async",
    "Row",
    "Policy",
    "PolicyFields",
    "Timeout",
    "Progress",
    "Response",
    "Responses",
    "Headers",
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
    "__version__",
]

logging.getLogger("loamy").addHandler(logging.NullHandler())
# Calls of daemon threads end before the interpreter goes away beneath them.
atexit.register(shut_down)


def _warn_if_slow() -> None:
    import os
    import warnings

    if not optimised and "LOAMY_UNOPTIMISED" not in os.environ:
        warnings.warn(
            "this build of loamy is not optimised and several times slower; build it in release mode, "
            "or set LOAMY_UNOPTIMISED=1 to use it as it is",
            RuntimeWarning,
            stacklevel=3,
        )


_warn_if_slow()
