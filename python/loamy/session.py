"""The documented API: a `Clump` of requests, sent concurrently from synchronous code.

Example:
    >>> from loamy.session import Clump, RequestMap
    >>> requests = [RequestMap(url="http://127.0.0.1:8080/get", http_op="GET", query_params={"page": str(page)}) for page in range(3)]
    >>> for response in Clump(requests=requests).send_requests():
    ...     print(response.status_code, response.body)

"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loamy._journal import recorded_by
from loamy._loamy import Batch
from loamy._masking import shown
from loamy._send import listed_rows, with_all
from loamy._watching import watched
from loamy.headers import Headers
from loamy.policy import as_before
from loamy.progress import telling

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from loamy._rows import Row
    from loamy.policy import Policy
    from loamy.progress import Progress

__all__ = ["Clump", "RequestMap", "RequestResponse"]


class _Named(msgspec.Struct):
    """The methods that the classes of 0.0.10 had from pydantic; each names what to use instead."""

    def model_dump(self) -> dict[str, Any]:
        """Return the fields as a dict. Deprecated: use ``msgspec.structs.asdict``."""
        _deprecated("model_dump", "msgspec.structs.asdict(value) or msgspec.to_builtins(value)")
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__}

    def model_dump_json(self) -> str:
        """Return the fields as JSON. Deprecated: use ``msgspec.json.encode``."""
        _deprecated("model_dump_json", "msgspec.json.encode(value)")
        return msgspec.json.encode(self, enc_hook=str).decode()

    def model_copy(self, *, update: dict[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy. Deprecated: use ``msgspec.structs.replace``."""
        _deprecated("model_copy", "msgspec.structs.replace(value, **changes)")
        import copy

        own = copy.deepcopy(self) if deep else self
        return msgspec.structs.replace(own, **(update or {}))

    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        """Make a struct of a dict. Deprecated: use ``msgspec.convert``."""
        _deprecated("model_validate", f"msgspec.convert(value, {cls.__name__})")
        return obj if isinstance(obj, cls) else msgspec.convert(obj, cls)

    def __repr__(self) -> str:
        return shown(self)

    def __rich_repr__(self) -> Any:
        yield shown(self)


class RequestMap(_Named):
    """One request to be sent. Nothing is checked here: what is wrong with it becomes the outcome of its row."""

    url: str
    """Where to; its own query stays, and ``query_params`` are appended."""
    http_op: Literal["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]
    """The method."""
    body: dict[str, Any] | None = None
    """Sent as JSON, the bytes of ``json.dumps(body)``; a GET goes without."""
    query_params: dict[str, Any] | None = None
    """Appended to the URL; numbers, bools and lists are fine too."""
    headers: dict[str, str] | None = None
    """Sent in this spelling."""


# The collector must see it: raising its error ties a knot of exception, frame and response.
class RequestResponse(_Named):
    """What came of one request."""

    request_map: RequestMap
    """The very object given."""
    status_code: int
    """The status received; 0 when there was no whole answer."""
    body: Any = None
    """The JSON value; None for an empty body; ``{"text": …}`` for one that is not JSON, with ``error`` set."""
    error: BaseException | None = None
    """Why there is no answer, or why its body is not JSON; see `loamy.errors`."""
    headers: Headers | None = None
    """The headers received; None when there was no answer."""
    content: bytes = b""
    """The body's bytes, their content coding undone."""
    elapsed: float = 0.0
    """Seconds from taking a slot to the end."""
    attempts: int = 0
    """How often the request was sent, or a connection tried for it."""
    earlier: tuple[str, ...] = ()
    """What became of the attempts before the last, such as ``("status 503", "timeout.connect")``."""


class Clump:
    """A list of requests that are sent concurrently.

    Args:
        requests: the requests; rows of the other forms that `loamy.send` takes are fine too.
        policy: how to send them; left out, 100 at once, as ever.

    Raises:
        TooManyRows: when so many responses cannot fit into the memory that this process may have.

    """

    def __init__(self, requests: Iterable[Row], *, policy: Policy | None = None) -> None:
        self._requests: list[Any] = listed_rows(requests, "Clump", RequestResponse)
        self._policy = as_before("Clump", policy)

    def send_requests(
        self,
        return_exceptions: bool = False,
        *,
        progress: bool | Callable[[Progress], object] = False,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        resend_in_doubt: bool = False,
        keep_good: bool = False,
    ) -> list[RequestResponse]:
        """Send the requests and return a response for each, in order.

        Nothing is raised for a request that fails: its response has status 0 and its ``error``.

        Args:
            return_exceptions: changes nothing; it never did.
            progress: as for `loamy.send`.
            journal: as for `loamy.send`.
            retry_failed: as for `loamy.send`.
            resend_in_doubt: as for `loamy.send`.
            keep_good: as for `loamy.send`.

        Raises:
            BatchInterrupted: on Ctrl-C, with every response.
            JournalError: as for `loamy.send`.

        """
        rows = self._requests
        recorded = recorded_by(journal, self._policy, retry_failed, resend_in_doubt, keep_good)
        batch: Batch | None = None
        try:
            with telling(progress, len(rows)) as tell, watched("Clump") as watching:
                if not rows and recorded is None:
                    return []
                batch = Batch(
                    self._policy._of_call(), "clump", watch=watching.tell, carried=watching.carried, journal=recorded
                )
                responses: list[RequestResponse] = batch.run(rows, tell)
                return responses
        except KeyboardInterrupt as raised:
            stop = with_all(raised, batch, rows)
            raise stop from stop.__cause__


def _deprecated(name: str, instead: str) -> None:
    warnings.warn(f"{name}() is pydantic's name; use {instead}", DeprecationWarning, stacklevel=3)


def _plain(value: Any) -> Any:
    return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
