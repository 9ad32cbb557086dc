"""Where a call stands: for a bar, the log, or a function of the caller's."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Progress"]

Paused: TypeAlias = tuple[tuple[str, float], ...]
Tell: TypeAlias = Callable[[int, int, int, int, int, Paused, float], None]

_LOG_EVERY = 10.0
"""Seconds between two lines of the log."""

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<LEFT, {rate_fmt}{postfix}]"

logger = logging.getLogger("loamy")


class Progress(NamedTuple):
    """A snapshot of a call, as given to a function passed as ``progress=``, ten times a second on the calling thread."""

    total: int
    """Rows of the call; in a stream, those pulled so far."""
    waiting: int
    """Rows taken in and not yet sent."""
    in_flight: int
    """Rows on the wire."""
    done: int
    """Rows that have ended, failed ones included."""
    failed: int
    """Rows that ended with an error."""
    elapsed: float
    """Seconds since the call began."""
    retrying: int = 0
    """Rows that wait to be sent again, of those that wait."""
    paused: Paused = ()
    """The hosts that take no row for now, such as ``api.example.com:443``, each with the seconds left."""
    eta: float | None = None
    """Seconds until the call ends, by the pace so far, or by what limits and pauses leave, if that is longer. None when unknown: before
    the first row has ended, and in a stream, whose length nobody knows."""


@contextmanager
def telling(progress: bool | Callable[[Progress], object], total: int | None) -> Iterator[Tell | None]:
    """Give the function that the batch calls with its numbers, or None.

    Raises:
        TypeError: when ``progress`` is neither a bool nor callable.

    """
    if progress is False or progress is None:
        yield None
    elif callable(progress):
        yield _snapshots(progress, total)
    elif progress is not True:
        raise TypeError(f"progress must be True, False or a function, not {type(progress).__name__}")
    elif (bar := _bar(total)) is not None:
        with bar:
            yield _snapshots(_drawing(bar), total)
    else:
        yield _snapshots(_Lines(), total)


def _snapshots(function: Callable[[Progress], object], total: int | None) -> Tell:
    began = time.monotonic()

    def tell(
        waiting: int, in_flight: int, done: int, failed: int, retrying: int, paused: Paused, at_least: float
    ) -> None:
        rows = waiting + in_flight + done if total is None else total
        elapsed = time.monotonic() - began
        eta = None if total is None else _eta(total - done, done, elapsed, at_least)
        function(Progress(rows, waiting, in_flight, done, failed, elapsed, retrying, paused, eta))

    return tell


def _eta(left: int, done: int, elapsed: float, at_least: float) -> float | None:
    if not left:
        return 0.0
    if done:
        return max(at_least, left * elapsed / done)
    return at_least or None


def warn_of_pause(origin: str, seconds: float, longest: float) -> None:
    """Tell the log that a host is paused; called by the binding, once for each pause of a second or more."""
    if seconds > longest:
        then = f"that is beyond max_pause ({longest:g} s), so what waits for it is not sent"
    else:
        then = "what waits for it goes on after that"
    logger.warning("%s is paused for %s s: it takes no more requests for now; %s", origin, _rounded(seconds), then)


def warn_of_budget(origin: str) -> None:
    """Tell the log that the retries of a host are used up; called by the binding, once for each host of a call."""
    logger.warning(
        "the budget of retries of %s is used up (a fifth of its rows and 10): what fails there is not sent again",
        origin,
    )


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{round(seconds, 1):g}"


def _pauses(paused: Paused) -> str:
    return ", ".join(f"{origin} {_rounded(seconds)} s" for origin, seconds in paused)


class _Lines:
    """An INFO line each ten seconds."""

    def __init__(self) -> None:
        self._next = _LOG_EVERY

    def __call__(self, now: Progress) -> None:
        if now.elapsed >= self._next:
            self._next = now.elapsed + _LOG_EVERY
            text = "%s of %s rows done, %s failed, %s in flight"
            told: list[object] = [now.done, now.total, now.failed, now.in_flight]
            if now.paused:
                text += ", paused: %s"
                told.append(_pauses(now.paused))
            if now.eta is not None:
                text += ", %s s left"
                told.append(_rounded(now.eta))
            logger.info(text, *told)


def _bar(total: int | None) -> Any:
    """Make a tqdm bar, where tqdm is installed and somebody looks."""
    notebook = _in_notebook()
    if not notebook and not sys.stderr.isatty():
        return None
    try:
        if not notebook:
            from tqdm import tqdm

            return tqdm(total=total, unit="row")
        with warnings.catch_warnings():
            # Without widgets tqdm draws the bar in text and warns; the bar is what was asked for.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm as notebook_tqdm

            return notebook_tqdm(total=total, unit="row")
    except ImportError:
        return None


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def _drawing(bar: Any) -> Callable[[Progress], object]:
    def draw(now: Progress) -> None:
        shown: dict[str, object] = {}
        if now.failed:
            shown["failed"] = now.failed
        if now.retrying:
            shown["retrying"] = now.retrying
        if now.paused:
            shown["paused"] = _pauses(now.paused)
        if bar.total is not None:
            # Of its own accord the bar goes by the pace alone, which says nothing of limits and pauses.
            left = "?" if now.eta is None else bar.format_interval(now.eta)
            bar.bar_format = _BAR.replace("LEFT", left)
        if shown or bar.postfix:
            bar.set_postfix(shown, refresh=bool(now.paused))
        bar.update(now.done - bar.n)

    return draw
