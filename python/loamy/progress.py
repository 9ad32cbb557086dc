"""Where a call stands: for a bar, the log, or a function of the caller's."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Tell = Callable[[int, int, int, int], None]

__all__ = ["Progress"]

_LOG_EVERY = 10.0
"""Seconds between two lines of the log."""

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


@contextmanager
def telling(progress: bool | Callable[[Progress], object], total: int | None) -> Iterator[_Tell | None]:
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
            yield _advance(bar)
    else:
        yield _snapshots(_Lines(), total)


def _snapshots(function: Callable[[Progress], object], total: int | None) -> _Tell:
    began = time.monotonic()

    def tell(waiting: int, in_flight: int, settled: int, failed: int) -> None:
        rows = waiting + in_flight + settled if total is None else total
        function(Progress(rows, waiting, in_flight, settled, failed, time.monotonic() - began))

    return tell


class _Lines:
    """An INFO line each ten seconds."""

    def __init__(self) -> None:
        self._next = _LOG_EVERY

    def __call__(self, now: Progress) -> None:
        if now.elapsed >= self._next:
            self._next = now.elapsed + _LOG_EVERY
            logger.info("%s of %s rows done, %s failed, %s in flight", now.done, now.total, now.failed, now.in_flight)


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


def _advance(bar: Any) -> _Tell:
    def tell(waiting: int, in_flight: int, settled: int, failed: int) -> None:
        if failed:
            bar.set_postfix(failed=failed, refresh=False)
        bar.update(settled - bar.n)

    return tell
