"""The documented API of zConcurrent: a `zSession` of requests, sent concurrently from synchronous code.

Example:
    >>> from zconcurrent.zsession import RequestMap, zSession
    >>> maps = [RequestMap(url="http://127.0.0.1:8080/get", httpOperation="GET", queryParams={"page": str(page)}) for page in range(3)]
    >>> results = zSession(requestMaps=maps).sendRequests(return_exceptions=True)
    >>> for response in results.requestResponses:
    ...     print(response.statusCode, response.body)

"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from loamy._journal import recorded_by
from loamy._loamy import Batch
from loamy._masking import shown
from loamy._send import listed_rows, with_all
from loamy._watching import watched
from loamy.policy import as_before
from loamy.progress import telling

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from loamy._rows import Row
    from loamy.errors import LoamyError
    from loamy.policy import Policy
    from loamy.progress import Progress

__all__ = ["RequestMap", "RequestResponse", "RequestResults", "zSession"]


class RequestMap(msgspec.Struct):
    """One request to be sent. Nothing is checked here: what is wrong with it becomes the exception of its row."""

    url: str
    """Where to; its own query stays, and ``queryParams`` are appended."""
    httpOperation: Literal["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]
    """The method."""
    body: dict[str, Any] | None = None
    """Sent as JSON, the bytes of ``json.dumps(body)``; a GET goes without."""
    queryParams: dict[str, Any] | None = None
    """Appended to the URL; numbers, bools and lists are fine too."""
    headers: dict[str, str] | None = None
    """Sent in this spelling."""

    def __repr__(self) -> str:
        return shown(self)

    def __rich_repr__(self) -> Any:
        yield shown(self)


class RequestResponse(msgspec.Struct, gc=False):
    """The answer to one request."""

    requestMap: RequestMap
    """The very object given."""
    statusCode: int
    """The status received."""
    body: Any = None
    """The JSON value; None for an empty body."""

    def __repr__(self) -> str:
        return shown(self)

    def __rich_repr__(self) -> Any:
        yield shown(self)


@dataclass
class RequestResults:
    """What came of a list of requests: the answers, and the exceptions of those that have none."""

    requestResponses: list[RequestResponse]
    """The answers whose body is JSON, in the order of their requests."""
    taskExceptions: list[LoamyError]
    """The exceptions, in the order of their requests; each has its request as ``request_map``."""


class zSession:
    """A list of requests that are sent concurrently.

    Args:
        requestMaps: the requests; rows of the other forms that `loamy.send` takes are fine too.
        policy: how to send them; left out, 100 at once, as ever.

    Raises:
        loamy.TooManyRows: when so many responses cannot fit into the memory that this process may have.

    """

    def __init__(self, requestMaps: Iterable[Row], *, policy: Policy | None = None) -> None:
        self._rows: list[Any] = listed_rows(requestMaps, "zSession", RequestResponse)
        self._policy = as_before("zSession", policy)

    def sendRequests(
        self,
        return_exceptions: bool = False,
        *,
        progress: bool | Callable[[Progress], object] = False,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        resend_in_doubt: bool = False,
        keep_good: bool = False,
    ) -> RequestResults:
        """Send the requests and return their answers.

        Args:
            return_exceptions: whether what failed stands in ``taskExceptions``; where not, the first failure in the order of the
                requests is raised and the rest is cancelled. A body that is not JSON is a failure too.
            progress: as for `loamy.send`.
            journal: as for `loamy.send`.
            retry_failed: as for `loamy.send`.
            resend_in_doubt: as for `loamy.send`.
            keep_good: as for `loamy.send`.

        Raises:
            loamy.LoamyError: a failure, with its request as ``request_map``.
            loamy.BatchInterrupted: on Ctrl-C, with what came of every request.
            loamy.JournalError: as for `loamy.send`.

        """
        rows = self._rows
        recorded = recorded_by(journal, self._policy, retry_failed, resend_in_doubt, keep_good)
        batch: Batch | None = None
        try:
            with telling(progress, len(rows)) as tell, watched("zSession") as watching:
                if not rows and recorded is None:
                    return RequestResults([], [])
                batch = Batch(
                    self._policy._of_call(),
                    "zsession",
                    RequestResponse,
                    not return_exceptions,
                    watch=watching.tell,
                    carried=watching.carried,
                    journal=recorded,
                )
                made = batch.run(rows, tell)
            failures: list[Any] = [error for error in made if isinstance(error, BaseException)]
            return RequestResults([response for response in made if not isinstance(response, BaseException)], failures)
        except KeyboardInterrupt as raised:
            stop = with_all(raised, batch, rows)
            raise stop from stop.__cause__
