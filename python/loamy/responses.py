"""What came of a list of rows: a list of `Response` that can say so."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

# As in `_send`: what methods are annotated with is there at run time.
from loamy._loamy import Response
from loamy._rows import Unpack
from loamy.errors import BatchInterrupted, FailedResponses
from loamy.policy import Policy, PolicyFields, check_flag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeVar

    from typing_extensions import Self

    _T = TypeVar("_T")

_SHOWN = 10
"""Failures that the repr shows one by one."""


class Responses(list["Response"]):
    """One `Response` for each row, in the order given, whatever happened on the way."""

    def __init__(
        self, responses: Iterable[Response] = (), *, policy: Policy | None = None, journal: str | None = None
    ) -> None:
        super().__init__(responses)
        self._policy = policy
        self._journal = journal

    @property
    def failed(self) -> Responses:
        """Those that are not ok: without a whole answer, or with a status of 400 or above."""
        return self._of(response for response in self if not response.ok)

    def counts(self) -> dict[str, int]:
        """How many ended in which way: ``{"ok": 4962, "status 503": 21, "timeout.connect": 17}``, the most frequent first."""
        counted = Counter(_ending(response) for response in self)
        ok = counted.pop("ok", None)
        return ({} if ok is None else {"ok": ok}) | dict(counted.most_common())

    def raise_for_failures(self) -> Self:
        """Return the list itself when every response is ok.

        Raises:
            FailedResponses: otherwise, with the failures as ``responses`` and the first one's error as its cause.

        """
        failed = self.failed
        if not failed:
            return self
        try:
            failed[0].raise_for_status()
        except Exception as first:
            raise FailedResponses(f"failures: {self!r}", failed) from first
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat, JSON-able dict for each response: fit for a data frame or a task's result.

        The columns: ``index tag method url status_code ok kind error in_doubt attempts elapsed earlier text``; ``elapsed`` in seconds,
        ``earlier`` as in ``status 503, timeout.connect``, None where the row was sent once, ``kind`` and ``error`` None where an answer
        arrived; a ``tag`` that is neither text nor number as ``str(tag)``.
        """
        return [_row(response) for response in self]

    def resend(
        self, *, in_doubt: bool = False, policy: Policy | None = None, **fields: Unpack[PolicyFields]
    ) -> Responses:
        """Send the failures again and return the whole list anew, with the new answers in their places.

        A row that had an ``Idempotency-Key``, its own or one that was made for it, goes out with that one, whatever the policy. Only
        ``idempotency="auto"`` said here makes keys for rows that had none.

        What a journal has is not sent past it: make the same call again with ``retry_failed=True``.

        Args:
            in_doubt: whether rows whose effect is unknown are sent too; the server may then act on them twice.
            policy: how to send; left out, as before.
            fields: fields of the policy to set otherwise.

        Raises:
            TypeError: for responses of a call with a journal, which would not know of the sending, and send them once more.
            ValueError: when two rows without a key would get the same one.
            BatchInterrupted: on Ctrl-C, with the whole list.

        """
        from loamy._send import send_again

        check_flag("in_doubt", in_doubt)
        if self._journal is not None:
            # Even where nothing failed: a program that is right by luck breaks on the first day that something does.
            raise TypeError(_past_the_journal(self._journal, in_doubt))

        again = [
            place for place, response in enumerate(self) if not response.ok and (in_doubt or not response.in_doubt)
        ]
        before = self._policy
        # The job of this list is that of one call, and its rows may be of several: those of this one have their keys.
        how = policy or (None if before is None else before._without_keys())
        whole = Responses(self, policy=policy or before)
        try:
            answers = send_again([self[place] for place in again], how, fields)
        except BatchInterrupted as stop:
            stop.responses = whole._with(again, stop.responses)
            raise
        return whole._with(again, answers)

    def _with(self, places: list[int], answers: list[Response]) -> Responses:
        for place, answer in zip(places, answers, strict=True):
            self[place] = answer
        return self

    def copy(self) -> Responses:
        """Return a list of the same responses."""
        return self._of(self)

    @overload
    def __add__(self, other: list[Response]) -> Responses: ...
    @overload
    def __add__(self, other: list[_T]) -> list[Response | _T]: ...
    def __add__(self, other: list[Any]) -> list[Any]:
        """Return the responses of both lists; the policy is that of the first, the journal that of whichever has one."""
        whole = super().__add__(other)
        if whole is NotImplemented or not all(isinstance(response, Response) for response in other):
            return whole
        return Responses(whole, policy=self._policy, journal=self._journal or getattr(other, "_journal", None))

    @overload
    def __getitem__(self, place: SupportsIndex) -> Response: ...
    @overload
    def __getitem__(self, place: slice) -> Responses: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Response | Responses:
        if isinstance(place, slice):
            return self._of(super().__getitem__(place))
        return super().__getitem__(place)

    def _of(self, some: Iterable[Response]) -> Responses:
        """Make a list of some of them, which knows what this one knows."""
        return Responses(some, policy=self._policy, journal=self._journal)

    def __repr__(self) -> str:
        lines = [self._summary(), *(f"  {line}" for line in self._failures())]
        if (hint := self._hint()) is not None:
            lines.append(f"hint: {hint}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        items = "".join(f"<li><code>{html.escape(line)}</code></li>" for line in self._failures())
        hint = self._hint()
        parts = [
            f"<p>{html.escape(self._summary())}</p>",
            f"<ul>{items}</ul>" if items else "",
            "" if hint is None else f"<p>hint: <code>{html.escape(hint)}</code></p>",
        ]
        return "".join(parts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("Responses(...)" if cycle else repr(self))

    def _summary(self) -> str:
        noun = "response" if len(self) == 1 else "responses"
        if not self:
            return f"0 {noun}"
        parts = [f"{count:,} {ending}{self._hosts(ending)}" for ending, count in self.counts().items()]
        if over := [response for response in self if response.over_budget]:
            hosts = {_host(response.url) for response in over}
            of = hosts.pop() if len(hosts) == 1 else f"{len(hosts):,} hosts"
            parts.append(f"{len(over):,} not sent again: the budget of retries of {of} is used up")
        return f"{len(self):,} {noun}: {' · '.join(parts)}"

    def _hosts(self, ending: str) -> str:
        """Name the host of a group of errors, or how many there are."""
        if ending == "ok" or ending.startswith("status "):
            return ""
        hosts = {_host(response.url) for response in self if response.kind == ending} - {""}
        if not hosts:
            return ""
        return f" ({hosts.pop()})" if len(hosts) == 1 else f" ({len(hosts):,} hosts)"

    def _failures(self) -> Iterator[str]:
        failed = self.failed
        for response in failed[:_SHOWN]:
            yield repr(response).removeprefix("<Response ").removesuffix(">")
        if len(failed) > _SHOWN:
            yield f"… and {len(failed) - _SHOWN:,} more in .failed"

    def _hint(self) -> str | None:
        """Say what can be done about rows that were refused for now and not sent again."""
        if any(response.over_budget for response in self):
            return "responses.resend() sends what failed once more, with a new budget"
        if self._policy is None or self._policy.retries > 0:
            return None
        if not any(response.status_code == 429 for response in self):
            return None
        return "status 429 asks to come again later; retries=3 does, when the server allows it; a rate such as rate='10/s' avoids it"


def _past_the_journal(journal: str, in_doubt: bool) -> str:
    wish = "resend_in_doubt=True" if in_doubt else "retry_failed=True"
    return (
        f"resend() would send rows of the journal {journal!r} without its knowledge, and the next run would send them once more"
        f"\nhint: make the same call again with {wish}; rows whose answer has a status of 400 and above are done: "
        "for another answer send them as a list of their own, loamy.send([r.request for r in responses.failed])"
    )


def _ending(response: Response) -> str:
    if response.ok:
        return "ok"
    return response.kind or f"status {response.status_code}"


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _row(response: Response) -> dict[str, Any]:
    error, tag = response.error, response.tag
    return {
        "index": response.index,
        "tag": tag if tag is None or isinstance(tag, (str, int, float)) else str(tag),
        "method": response.method,
        "url": response.url,
        "status_code": response.status_code,
        "ok": response.ok,
        "kind": response.kind,
        "error": None if error is None else str(error),
        "in_doubt": response.in_doubt,
        "attempts": response.attempts,
        "elapsed": response.elapsed,
        "earlier": ", ".join(response.earlier) or None,
        "text": response.text,
    }
