"""The compiled half of loamy."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

from loamy._unverified import Place
from loamy._watching import Watch
from loamy.errors import LoamyError
from loamy.headers import Headers
from loamy.policy import Policy
from loamy.progress import Tell

__all__ = [
    "Trust",
    "check_headers",
    "check_rate",
    "Batch",
    "shut_down",
    "canonical_name",
    "is_secret_header",
    "masked_url",
    "memory_limit",
    "Response",
    "restore_response",
    "Server",
    "__version__",
    "optimised",
    "KINDS",
]

__version__: str
optimised: bool
"""Whether the build is fit for use at full speed."""
KINDS: list[tuple[str, str, list[str]]]
"""Each kind of failure: its name, its exception class in `loamy.errors`, and that class's builtin parents."""

@final
class Response:
    """What became of one row.

    The garbage collector does not look inside: a response that is stored in its own row or tag is never freed.
    """

    @property
    def index(self) -> int:
        """The row's place in the list given, from 0."""
    @property
    def tag(self) -> Any:
        """The row's own ``tag``; None where it has none."""
    @property
    def request(self) -> Any:
        """The row itself, the very object given."""
    @property
    def method(self) -> str:
        """The method that the row names."""
    @property
    def idempotency_key(self) -> str | None:
        """The ``Idempotency-Key`` that the row goes out with, its own or the one made for it; None without one."""
    @property
    def ok(self) -> bool:
        """Whether a whole answer arrived with a status below 400."""
    @property
    def status_code(self) -> int:
        """The status received; 0 when there was no whole answer."""
    @property
    def headers(self) -> Headers:
        """The headers received; empty when there was no whole answer."""
    @property
    def content(self) -> bytes:
        """The body's bytes, their content coding undone: a copy each time, which ``memoryview(response)`` is not."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def text(self) -> str:
        """The body as text: by the charset of its Content-Type, else UTF-8; bytes that are no text become U+FFFD."""
    def json(self, **options: Any) -> Any:
        """Return the body decoded from JSON; the options are those of ``json.loads``.

        Raises:
            JSONDecodeError: when it is not JSON.
            LoamyError: the row's error, when there was no whole answer.

        """
    @property
    def url(self) -> str:
        """The URL that answered, after redirects; the row's own when there was no whole answer."""
    @property
    def http_version(self) -> str:
        """The protocol that the peer spoke, such as ``HTTP/1.1``; empty when there was no whole answer."""
    @property
    def redirects(self) -> int:
        """How many redirects led here."""
    @property
    def elapsed(self) -> float:
        """Seconds from taking a slot to the end, redirects and second sendings included."""
    @property
    def attempts(self) -> int:
        """How often the row was sent, or a connection tried for it."""
    @property
    def earlier(self) -> tuple[str, ...]:
        """What became of the attempts before the last, such as ``("status 503", "timeout.connect")``."""
    @property
    def replayed(self) -> bool:
        """Whether it was not sent in this call: a journal had it from an earlier one."""
    @property
    def over_budget(self) -> bool:
        """Whether ``retries`` would have had it sent again, but for the budget of its host, which was used up."""
    @property
    def in_doubt(self) -> bool:
        """Whether it failed and may have taken effect all the same, so that sending it again could do it twice.

        As its error says. An answer with a status of 400 or above is in doubt where what it answers is the GET that a redirect had made
        of a POST, or another sending of one that was never answered.
        """
    @property
    def error(self) -> LoamyError | None:
        """Why there is no whole answer; None when there is one.

        It is made when it is asked for: what you attach to it is gone with the next access, unless you hold on to it.
        """
    @property
    def kind(self) -> str | None:
        """The kind of the error, such as ``timeout.connect``; None when there is none."""
    def raise_for_status(self) -> Response:
        """Return the response itself when it is ok.

        Raises:
            LoamyError: the row's error.
            HTTPStatusError: for a status of 400 or above.

        """

def check_rate(field: str, text: str) -> None:
    """Check how fast a field of a policy says.

    Raises:
        ValueError: with what is wrong with it and how it is written.

    """

def check_headers(given: Any) -> list[tuple[str, str]]:
    """Check the headers of a policy and return them as pairs.

    Raises:
        TypeError: for what is neither a mapping nor a list of pairs of str.
        ValueError: for a name or a value that cannot be sent, or may not stand in the headers of every row.

    """

@final
class Trust:
    """How TLS is spoken under a policy: read and checked when the policy is built. Not for use from outside.

    Raises:
        TypeError: for a value of the wrong type.
        ValueError: for a value that it cannot have; an `InvalidRequest` for a file that is no bundle of certificates.

    """

    def __new__(cls, verify: Any, extra_ca: Any, tls_min: Any, key_log: Any) -> Trust: ...

@final
class Batch:
    """A batch of rows under way. Not for use from outside: `loamy.send` and its kin are."""

    def __new__(
        cls,
        policy: Policy,
        door: Literal["front", "clump", "zsession"] = "front",
        response_class: type[Any] | None = None,
        first_failure_ends: bool = False,
        place: Place | None = None,
        watch: Watch | None = None,
        journal: tuple[str, bool, bool, bool] | None = None,
        carried: Sequence[tuple[str, str]] | None = None,
        again: list[Response] | None = None,
    ) -> Batch:
        """Begin one.

        ``carried`` are headers for rows that have none of these names, ``journal`` is a path, and whether failed rows, rows in doubt,
        and what is left of a damaged record are taken up, ``again`` what became of the rows before, whose indexes and keys they keep.
        """
    def run(
        self,
        rows: list[Any],
        tell: Tell | None = None,
        each: Callable[[list[Any]], object] | None = None,
    ) -> list[Any]:
        """Send the rows and return what came of each, in order.

        ``tell`` gets the numbers of `progress`, ``each`` what has ended, a slice at a time.
        """
    def left(self, rows: list[Any]) -> list[Any] | None:
        """Return what came of every row, for a Ctrl-C before `run` or after it; None where something else ended that."""
    def admit(self, rows: list[Any]) -> None:
        """Add rows and take them out of the list; they are on their way when this returns. Those that it could not come to are still in the list."""
    @property
    def under_way(self) -> int:
        """How many rows were added and not taken."""
    def close(self) -> None:
        """Say that no more rows will come."""
    def take(self, want: int, seconds: float, into: list[Response]) -> int:
        """Wait until ``want`` rows have ended, or all, or the seconds have passed; return how many have.

        They are appended to the list as they ended, also where it raises.
        """
    def cancel(self) -> None:
        """End the batch: rows in flight as ``cancelled``, waiting ones as ``not_sent``. No byte is written afterwards."""
    def end_journal(self) -> None:
        """End the journal, where there is one: complete if every row has its outcome, else left to a later run."""
    @property
    def finished(self) -> bool:
        """Whether no more rows will come and every outcome was taken."""
    def progress(self) -> tuple[int, int, int, int, int, tuple[tuple[str, float], ...], float]:
        """Return where it stands.

        The numbers of rows waiting, in flight, settled, settled with an error, and waiting to be sent again; pairs of a paused
        origin and the seconds left; the seconds that what waits takes at the least.
        """

@final
class Server:
    """The server behind `loamy.testing`."""

    def __new__(
        cls,
        close_after: int | None = None,
        announce_close: bool = True,
        keep_log: bool = True,
        tls: bool = False,
        http2: bool = True,
        port: int = 0,
    ) -> Server: ...
    def url(self, path: str) -> str:
        """Return the server's address followed by a path."""
    def ca(self) -> bytes | None:
        """Return the certificate of the authority that has signed its own, as PEM; None where it speaks no TLS."""
    def log(self) -> str:
        """Return what it saw so far, as JSON."""
    def stop(self) -> None:
        """Stop it; what it saw stays."""

def shut_down() -> None:
    """End every batch and wait until no call is under way; for the end of the process."""

def canonical_name(name: str) -> str:
    """Return the spelling under which a header stands in `Headers`."""

def is_secret_header(name: str) -> bool:
    """Return whether a header of that name carries a credential."""

def masked_url(url: str) -> str:
    """Return a URL without the credentials that stand in it."""

def memory_limit() -> int | None:
    """Return the most bytes that this process can ever hold, swap included; None where nothing tells."""

def restore_response(
    index: int,
    row: Any,
    tag: Any | None,
    attempts: int,
    elapsed: float,
    answer: tuple[int, str, str, bytes, bytes, int] | None,
    error: Any | None,
    earlier: tuple[str, ...],
    replayed: bool,
    over_budget: bool,
    answered_in_doubt: bool,
    key: tuple[str | None, str | None],
) -> Response:
    """Return a response out of a pickle."""
