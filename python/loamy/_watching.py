"""Who watches the calls of this process from outside: nobody, unless `loamy.otel` was told to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

Watch: TypeAlias = Callable[[list[tuple[str, str, int, str | None, str, int, float]]], None]
"""What is told of rows that ended: the fields of `Ended`, for each."""


class Ended(NamedTuple):
    """How one row ended."""

    method: str
    """The method that the row names."""
    url: str
    """Where it led, without its credentials."""
    status: int
    """The status received, 0 when there was none."""
    kind: str | None
    """The kind of the error; None when a whole answer came."""
    version: str
    """Such as ``HTTP/1.1``; empty when there was no answer."""
    attempts: int
    """How often it was sent; 0 when it never was."""
    elapsed: float
    """Seconds from taking a slot to the end."""


begin: Callable[[str], AbstractContextManager[Watch]] | None = None
"""Begins to watch a call, by the name of its door."""


@contextmanager
def watched(door: str) -> Iterator[Watch | None]:
    """Give the function that the batch of a call tells of rows that ended, or None."""
    if begin is None:
        yield None
    else:
        with begin(door) as watch:
            yield watch
