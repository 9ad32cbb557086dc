"""The doors `send`, `stream` and `send_async`."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

# What the doors are annotated with is there at run time too, for those who read it with `typing.get_type_hints`.
from loamy import _memory
from loamy._journal import recorded_by
from loamy._loamy import Batch, Response
from loamy._rows import Unpack
from loamy._streaming import Streaming
from loamy._unverified import here
from loamy._watching import watched
from loamy.errors import BatchInterrupted, JournalError
from loamy.policy import Policy, PolicyFields, check_flag, resolve
from loamy.progress import Progress, telling
from loamy.responses import Responses

if TYPE_CHECKING:
    from loamy._journal import Recorded
    from loamy.progress import Tell

    _Each = Callable[[list[Response]], None]

_JOURNAL_GROUP = 1_000
"""Rows whose outcomes a journal puts on record together: so many more a stream has under way."""


def send(
    rows: Iterable[Any],
    *,
    policy: Policy | None = None,
    progress: bool | Callable[[Progress], object] = False,
    on_response: Callable[[Response], object] | None = None,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    resend_in_doubt: bool = False,
    keep_good: bool = False,
    **fields: Unpack[PolicyFields],
) -> Responses:
    """Send every row and return what came of each, in order.

    Args:
        rows: URLs, ``("POST", url)`` pairs, dicts with the keys ``method url params json data content headers timeout tag
            allow_redirects follow_redirects max_redirects verify extra_ca tls_min raw_url cost limit_key``, or RequestMaps, in any
            mixture.
        policy: how to send.
        progress: True for a bar or a line in the log; a function gets a `Progress` ten times a second.
        on_response: called with each `Response` on the calling thread, in the order in which they end. An exception in it
            cancels the call and is raised as it is; nothing is called any more then. What a journal has is among them.
        journal: a file that records what is done, so that the same call, made again after a crash, sends only what is left and
            returns the whole list. The rows must be the same, in the same order.
        retry_failed: rows that an earlier run recorded as failed are sent again; those in doubt are not.
        resend_in_doubt: rows that an earlier run may have sent are sent again, though they may take effect twice.
        keep_good: a damaged journal is used as far as it can be read.
        fields: fields of `Policy`, which win over ``policy``.

    Raises:
        TypeError: for a mistake of the whole call. What is wrong with a row is the outcome of that row.
        TooManyRows: when what comes of so many rows cannot fit into the memory that this process may have.
        BatchInterrupted: on Ctrl-C, with every response.
        JournalError: when the journal cannot be used, or written any further; then with every response.

    Example:
        >>> loamy.send(["http://127.0.0.1:8080/1", "http://127.0.0.1:8080/2"], timeout=10)

    """
    listed = listed_rows(rows, "send")
    plan = resolve("send", policy, fields)
    recorded = recorded_by(journal, plan, retry_failed, resend_in_doubt, keep_good)
    return _gather(listed, plan, progress, _each(on_response), recorded)


def send_again(responses: list[Response], policy: Policy | None, fields: Mapping[str, Any]) -> list[Response]:
    """Send the rows of responses once more; each answer keeps its response's index, and each row the key that it had."""
    plan = resolve("resend", policy, fields)._of_call()
    if not responses:
        return []
    rows = [response.request for response in responses]
    batch: Batch | None = None
    try:
        with watched("resend") as watching:
            batch = Batch(plan, watch=watching.tell, carried=watching.carried, again=responses)
            return batch.run(rows)
    except KeyboardInterrupt as raised:
        stop = with_all(raised, batch, rows)
        raise stop from stop.__cause__


def with_all(raised: KeyboardInterrupt, batch: Batch | None, rows: list[Any]) -> KeyboardInterrupt:
    """Return what leaves a call for a Ctrl-C: that came outside `Batch.run` too, with what came of every row."""
    # A subclass is somebody's own, or has them already.
    if raised.__class__ is not KeyboardInterrupt or batch is None or (left := batch.left(rows)) is None:
        return raised
    return BatchInterrupted(left)


def _gather(
    rows: list[Any],
    plan: Policy,
    progress: bool | Callable[[Progress], object],
    each: _Each | None,
    journal: Recorded | None,
) -> Responses:
    batch: Batch | None = None
    try:
        with telling(progress, len(rows)) as tell, watched("send") as watching:
            if not rows and journal is None:
                return Responses(policy=plan)
            plan = plan._of_call()
            batch = Batch(plan, watch=watching.tell, carried=watching.carried, journal=journal)
            return _run(batch, rows, plan, journal, tell, each)
    except KeyboardInterrupt as raised:
        stop = with_all(raised, batch, rows)
        if isinstance(stop, BatchInterrupted):
            stop.responses = _responses(stop.responses, plan, journal)
        raise stop from stop.__cause__


def _run(
    batch: Batch, rows: list[Any], plan: Policy, journal: Recorded | None, tell: Tell | None, each: _Each | None
) -> Responses:
    try:
        return _responses(batch.run(rows, tell, each), plan, journal)
    except JournalError as stop:
        stop.responses = _responses(stop.responses or [], plan, journal)
        raise


def _responses(made: list[Response], plan: Policy, journal: Recorded | None) -> Responses:
    return Responses(made, policy=plan, journal=None if journal is None else journal.path)


def _each(on_response: Callable[[Response], object] | None) -> _Each | None:
    """Return the function that calls another with each of a list.

    Raises:
        TypeError: for what cannot be called, or only makes coroutines.

    """
    if on_response is None:
        return None
    if not callable(on_response):
        raise TypeError(f"on_response must be a function, not {type(on_response).__name__}")
    from inspect import iscoroutinefunction

    if iscoroutinefunction(on_response):
        raise TypeError("on_response must be a plain function: nobody awaits what a coroutine function returns")

    def each(responses: list[Response]) -> None:
        for response in responses:
            on_response(response)

    return each


def stream(
    rows: Iterable[Any],
    *,
    order: Literal["done", "given"] = "done",
    window: int | None = None,
    policy: Policy | None = None,
    progress: bool | Callable[[Progress], object] = False,
    on_response: Callable[[Response], object] | None = None,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    resend_in_doubt: bool = False,
    keep_good: bool = False,
    replay: bool = True,
    **fields: Unpack[PolicyFields],
) -> Generator[Response, None, None]:
    """Send rows as they are pulled from an iterable of any length, and yield responses while others are under way.

    The iterable is only used by the thread that consumes the responses. When it raises, the rows that it gave before are
    finished and yielded first, and a journal is left to a later run. Leaving the loop cancels what is under way.

    The call begins when the first response is asked for: a journal is opened then, and a deadline runs from then.

    Args:
        rows: as for `send`; a generator may go on for ever.
        order: ``"done"`` yields each response when it has ended, ``"given"`` in the order of the rows.
        window: rows under way or waiting to be yielded, at most; left out, 4 × ``concurrency``, and 1,000 more with a journal.
        policy: how to send.
        progress: as for `send`.
        on_response: as for `send`; called before the response is yielded.
        journal: as for `send`. Rows are known again one by one, as they are pulled.
        retry_failed: as for `send`.
        resend_in_doubt: as for `send`.
        keep_good: as for `send`.
        replay: whether rows that an earlier run has done are yielded again, from the journal. False yields only what is new.
        fields: fields of `Policy`, which win over ``policy``.

    Raises:
        TypeError: for a mistake of the whole call.
        BatchInterrupted: on Ctrl-C, with the responses not yet yielded.
        JournalError: when the journal cannot be used; or, after the last response, when it could not be written.

    """
    check_rows(rows, "stream")
    plan = resolve("stream", policy, fields)
    recorded = recorded_by(journal, plan, retry_failed, resend_in_doubt, keep_good)
    check_flag("replay", replay)
    if not replay and recorded is None:
        raise TypeError("replay=False passes over what a journal has\nhint: pass journal='run.loamy' too")
    if order not in ("done", "given"):
        raise ValueError(f"order is {order!r}; it must be 'done' or 'given'")
    room = 4 * plan._slots + (0 if recorded is None else _JOURNAL_GROUP) if window is None else window
    if type(room) is not int or room < 1:
        raise ValueError(f"window is {window!r}; it must be a number of rows, 1 or more")

    streaming = Streaming(iter(rows), plan._of_call(), order == "given", room, _each(on_response), recorded)
    streaming.replays = replay
    # Whoever reads it may be far from here.
    streaming.place = here()
    return streaming.responses(progress)


async def send_async(
    rows: Iterable[Any],
    *,
    policy: Policy | None = None,
    progress: bool | Callable[[Progress], object] = False,
    on_response: Callable[[Response], object] | None = None,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    resend_in_doubt: bool = False,
    keep_good: bool = False,
    **fields: Unpack[PolicyFields],
) -> Responses:
    """Send every row and return what came of each, in order, without holding up the event loop.

    Cancelling the awaiting task cancels the batch; with a journal, the task ends when that is free. A ``progress`` function is called
    on a thread of its own, ``on_response`` in the event loop.

    Args:
        rows: as for `send`.
        policy: how to send.
        progress: as for `send`.
        on_response: as for `send`; a plain function.
        journal: as for `send`.
        retry_failed: as for `send`.
        resend_in_doubt: as for `send`.
        keep_good: as for `send`.
        fields: fields of `Policy`, which win over ``policy``.

    Raises:
        TypeError: for a mistake of the whole call.
        TooManyRows: as for `send`.
        JournalError: as for `send`.
        KeyboardInterrupt: on Ctrl-C, as asyncio has it and without responses.

    """
    listed = listed_rows(rows, "send_async")
    plan = resolve("send_async", policy, fields)
    recorded = recorded_by(journal, plan, retry_failed, resend_in_doubt, keep_good)
    plan = plan._of_call()
    each = _each(on_response)
    with watched("send_async") as watching:
        if not listed and recorded is None:
            return Responses(policy=plan)
        # The rows are read on a thread from which the caller cannot be seen.
        batch = Batch(plan, place=here(), watch=watching.tell, carried=watching.carried, journal=recorded)
        return await _run_beside(batch, listed, plan, recorded, progress, each)


async def _run_beside(
    batch: Batch,
    rows: list[Any],
    plan: Policy,
    journal: Recorded | None,
    progress: bool | Callable[[Progress], object],
    each: _Each | None,
) -> Responses:
    """Run a batch on a thread of its own and wait for it in the event loop."""
    import asyncio
    import contextvars
    import threading

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Responses] = loop.create_future()
    # The thread is through with the batch, and with its journal.
    over: asyncio.Future[None] = loop.create_future()
    # Kept beside the future, which does not take every exception.
    broken: list[BaseException] = []
    left = False

    def settle(result: Responses | None, error: BaseException | None) -> None:
        over.set_result(None)
        if ended.done():
            return
        if error is not None:
            broken.append(error)
        ended.set_result(Responses() if result is None else result)

    def hear(responses: list[Response]) -> None:
        if each is None or left or ended.done():
            return
        try:
            each(responses)
        except BaseException as raised:
            broken.append(raised)
            ended.set_result(Responses())

    def hand_over(responses: list[Response]) -> None:
        # The loop may be closed meanwhile: then nobody is there to be told.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(hear, responses)

    def work() -> None:
        result, error = None, None
        try:
            with telling(progress, len(rows)) as tell:
                result = _run(batch, rows, plan, journal, tell, None if each is None else hand_over)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            # The loop was closed meanwhile: nobody is there to be told.
            return

    async def leave() -> None:
        batch.cancel()
        # Whoever was told of the end may make the same call again, and its journal must be free by then.
        if journal is not None:
            await asyncio.shield(over)

    # What the caller's context holds, such as a trace's span, is there for `progress` and `on_response` too.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="loamy.send_async", daemon=True)
    thread.start()
    try:
        responses = await ended
    except GeneratorExit:
        # The coroutine was closed or thrown away, and cannot wait for anything.
        left = True
        batch.cancel()
        raise
    except BaseException:
        left = True
        await leave()
        raise
    if broken:
        await leave()
        raise broken.pop()
    return responses


def listed_rows(rows: Iterable[Any], door: str, outcome: type[Any] = Response) -> list[Any]:
    """Return the rows as a list, of which each becomes an outcome of that class.

    Raises:
        TypeError: when what was given is no list of rows.
        TooManyRows: when so many outcomes cannot fit into memory.

    """
    check_rows(rows, door)
    return _memory.listed(rows, outcome)


def check_rows(rows: Any, door: str) -> None:
    """Refuse what people give by mistake for a list of rows.

    Raises:
        TypeError: with what to give instead.

    """
    if type(rows) is list:
        return
    given = type(rows)
    advice = None
    if isinstance(rows, (str, bytes, bytearray)):
        advice = "for one row give a list of one: [url]"
    elif isinstance(rows, Mapping):
        advice = "for one row give a list of one: [row]; for many, list(rows.values())"
    elif rows is None:
        advice = "a function that builds the list may lack its return"
    elif hasattr(rows, "columns") and hasattr(rows, "shape"):
        advice = "give a column of URLs, or rows as dicts: frame['url'].tolist(), frame.to_dict('records')"
    elif hasattr(rows, "http_op") or hasattr(rows, "httpOperation"):
        advice = "for one row give a list of one: [row]"
    elif not hasattr(rows, "__iter__") and not hasattr(rows, "__getitem__"):
        advice = "it cannot be iterated over"
    if advice is not None:
        raise TypeError(f"{door}() takes a list of rows, not {given.__name__}\nhint: {advice}")
