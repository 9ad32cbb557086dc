"""A stream under way: rows pulled from a source while others are under way and responses are yielded."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from loamy._loamy import Batch
from loamy._signals import is_handlers
from loamy._watching import watched
from loamy.errors import BatchInterrupted, JournalError
from loamy.progress import telling
from loamy.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from loamy._journal import Recorded
    from loamy._loamy import Response
    from loamy._unverified import Place
    from loamy._watching import Watching
    from loamy.policy import Policy
    from loamy.progress import Progress

_PULL = 64
"""Rows pulled from a stream's source before they are on their way and results are handed on."""
_PULL_TIME = 0.005
"""The same in seconds: a slow source does not hold up the rows that it has given."""


class Streaming:
    """A stream under way. Nothing of it refers to itself: left to itself, it frees its journal and its source at once."""

    replays = True
    """Whether what a journal had is yielded."""
    place: Place
    """Where the call stands in the user's code."""
    batch: Batch
    """Begun when the first response is asked for: a stream that nobody reads sends nothing, and its deadline does not run."""

    def __init__(
        self,
        source: Iterator[Any],
        plan: Policy,
        as_given: bool,
        window: int,
        each: Callable[[list[Response]], None] | None,
        journal: Recorded | None,
    ) -> None:
        self.broken: list[Exception] = []
        self.source = _given(source, self.broken)
        self.plan = plan
        self.journal = journal
        self.each = each
        self.as_given = as_given
        self.concurrency = plan._slots
        self.window = window
        self.pulled: list[Any] = []
        self.ready: deque[Response] = deque()
        self.early: dict[int, Response] = {}
        self.admitted = 0
        self.taken = 0
        self.yielded = 0
        self.exhausted = False

    def responses(self, progress: bool | Callable[[Progress], object]) -> Generator[Response, None, None]:
        with watched("stream") as watching:
            self.batch = Batch(
                self.plan, place=self.place, watch=watching.tell, carried=watching.carried, journal=self.journal
            )
            yield from self.through(progress, watching)

    def through(
        self, progress: bool | Callable[[Progress], object], watching: Watching
    ) -> Generator[Response, None, None]:
        process = os.getpid()
        try:
            with telling(progress, None) as tell:
                told = time.monotonic()
                while not (self.exhausted and self.yielded == self.admitted):
                    self.pull()
                    self.take()
                    if tell is not None and time.monotonic() - told >= 0.1:
                        told = time.monotonic()
                        tell(*self.batch.progress())
                    for _ in range(_PULL):
                        if not self.ready:
                            break
                        self.yielded += 1
                        response = self.ready.popleft()
                        if self.replays or not response.replayed:
                            yield response
                if tell is not None:
                    tell(*self.batch.progress())
            if self.at_end:
                self.batch.end_journal()
        except BatchInterrupted as stop:
            stop.responses = self.left(stop.responses)
            raise
        except KeyboardInterrupt as raised:
            # It came while the source had the thread. A subclass is somebody's own and leaves as it is.
            if type(raised) is not KeyboardInterrupt:
                raise
            raise BatchInterrupted(self.left(self.stop())) from None
        finally:
            # A process that was forked meanwhile has a copy of what is its parent's to end.
            if os.getpid() == process:
                self.end(watching)
        if self.broken:
            raise self.broken.pop()

    def end(self, watching: Watching) -> None:
        """Cancel what is left, and let go of the journal."""
        if not self.batch.finished:
            self.batch.cancel()
            if watching.tell is not None:
                self.stop()
        if self.batch.finished and not self.at_end:
            # Ctrl-C has closed it, though the source has more to give. To end its journal now would make that complete; a batch that
            # is dropped leaves it to a later run.
            del self.batch
            return
        # What broke the stream off is what is told; the next run finds out what became of the record.
        with suppress(JournalError):
            self.batch.end_journal()

    @property
    def at_end(self) -> bool:
        """Whether the source has said that it has no more rows; one that broke off has not."""
        return self.exhausted and not self.broken

    def pull(self) -> None:
        """Take rows from the source as far as the window has room."""
        room = min(self.window - (self.admitted - self.yielded), _PULL)
        if self.exhausted or room <= 0:
            return
        pulled = 0
        until = time.monotonic() + _PULL_TIME
        for pulled, row in enumerate(islice(self.source, room), start=1):  # noqa: B007 (used after the loop)
            self.pulled.append(row)
            # While slots are free a row goes out before the source, which may take its time, is asked for the next.
            if self.admitted + len(self.pulled) - self.taken <= self.concurrency:
                self.admit()
            if time.monotonic() >= until:
                break
        else:
            self.exhausted = pulled < room
        self.admit()
        # A journal that was told of another end would refuse the rows that follow.
        if self.at_end:
            self.batch.close()

    def admit(self) -> None:
        """Give the engine the rows that were pulled."""
        if self.pulled:
            rows, self.pulled = self.pulled, []
            self.admitted += len(rows)
            self.batch.admit(rows)

    def stop(self) -> list[Response]:
        """Cancel what is under way and take all that has not been taken."""
        self.batch.cancel()
        self.admit()
        return self.batch.take(self.admitted - self.taken, 1.0)

    def left(self, taken: list[Response]) -> Responses:
        """Return what was not yielded."""
        left = [*self.ready, *self.early.values(), *taken]
        ordered = sorted(left, key=lambda response: response.index) if self.as_given else left
        return Responses(ordered, policy=self.plan, journal=None if self.journal is None else self.journal.path)

    def take(self) -> None:
        """Take what has ended; wait for something only when there is nothing else to do."""
        under_way = self.admitted - self.taken
        if not under_way:
            return
        full = self.exhausted or self.admitted - self.yielded >= self.window
        if self.ready or not full:
            fresh = self.batch.take(0, 0.0)
        else:
            # A few at once cost fewer awakenings; a lone one is not kept waiting for long.
            fresh = self.batch.take(min(under_way, _PULL), 0.01) or self.batch.take(1, 0.1)
        self.taken += len(fresh)
        self.file(fresh)
        # When they are in their places: what is raised in there may be Ctrl-C, which hands over all that was not yielded.
        if self.each is not None and fresh:
            self.each([response for response in fresh if self.replays or not response.replayed])

    def file(self, fresh: list[Response]) -> None:
        """Put responses where they wait to be yielded."""
        if not self.as_given:
            self.ready.extend(fresh)
            return
        self.early.update((response.index, response) for response in fresh)
        while (following := self.early.pop(self.yielded + len(self.ready), None)) is not None:
            self.ready.append(following)


def _given(source: Iterator[Any], broken: list[Exception]) -> Iterator[Any]:
    """Yield the rows of the source; what it raises ends them, and is raised once they are through.

    What a signal handler raises while the source has the thread is not the source's, and is raised at once.
    """
    try:
        # No `yield from`, which would close a source that the caller may go on with.
        for row in source:  # noqa: UP028
            yield row
    except Exception as error:
        if error.__traceback__ is not None and is_handlers(error.__traceback__):
            raise
        broken.append(error)
