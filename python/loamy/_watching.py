"""Who watches the calls of this process from outside: nobody, unless `loamy.otel` was told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Watching(NamedTuple):
    """What a batch has to do with whoever watches its call."""

    tell: Watch | None = None
    """Who is told of rows that ended."""
    carried: Sequence[tuple[str, str]] = ()
    """Headers for every row that neither has them itself nor has them from its policy."""


begin: Callable[[str], AbstractContextManager[Watching]] | None = None
"""Begins to watch a call, by the name of its door."""


@contextmanager
def watched(door: str) -> Iterator[Watching]:
    """Watch a call, if anybody wants to."""
    if begin is None:
        yield Watching()
    else:
        with begin(door) as watching:
            yield watching
