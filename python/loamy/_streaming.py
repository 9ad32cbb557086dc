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
        # Ctrl-C may come behind any call of this code. So the batch itself moves rows out of `pulled` and responses into `fresh`, and
        # counts them; and what moves on from there is put in its new place before it leaves the old one.
        self.pulled: list[Any] = []
        self.fresh: list[Response] = []
        self.early: dict[int, Response] = {}
        self.ready: deque[Response] = deque()
        self.yielded = 0
        self.exhausted = False

    def responses(self, progress: bool | Callable[[Progress], object]) -> Generator[Response, None, None]:
        try:
            with watched("stream") as watching:
                self.batch = Batch(
                    self.plan, place=self.place, watch=watching.tell, carried=watching.carried, journal=self.journal
                )
                yield from self.through(progress, watching)
        except KeyboardInterrupt as raised:
            # A second one, while the first was leaving, adds nothing to it. A subclass is somebody's own and leaves as it is.
            if raised.__class__ is not KeyboardInterrupt:
                raise
            raise self.interrupted() from None

    def through(
        self, progress: bool | Callable[[Progress], object], watching: Watching
    ) -> Generator[Response, None, None]:
        process = os.getpid()
        try:
            with telling(progress, None) as tell:
                told = time.monotonic()
                while not self.exhausted or self.held:
                    self.pull()
                    self.take()
                    if tell is not None and time.monotonic() - told >= 0.1:
                        told = time.monotonic()
                        tell(*self.batch.progress())
                    for _ in range(_PULL):
                        if not self.ready:
                            break
                        # No call stands between here and the `yield`: Ctrl-C comes before or after.
                        response = self.ready[0]
                        del self.ready[0]
                        self.yielded += 1
                        if self.replays or not response.replayed:
                            yield response
                if tell is not None:
                    tell(*self.batch.progress())
            if self.at_end:
                self.batch.end_journal()
        except KeyboardInterrupt as raised:
            if raised.__class__ is KeyboardInterrupt:
                raise self.interrupted() from None
            # That of a call in the source or in `on_response` has the rows of that call only.
            if raised.__class__ is BatchInterrupted:
                raise self.interrupted() from raised
            raise
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
        room = min(self.window - self.held, _PULL)
        if self.exhausted or room <= 0:
            return
        pulled, before = 0, self.batch.under_way
        until = time.monotonic() + _PULL_TIME
        for pulled, row in enumerate(islice(self.source, room), start=1):
            self.pulled.append(row)
            # While slots are free a row goes out before the source, which may take its time, is asked for the next.
            if before + pulled <= self.concurrency:
                self.batch.admit(self.pulled)
            if time.monotonic() >= until:
                break
        else:
            self.exhausted = pulled < room
        self.batch.admit(self.pulled)
        # A journal that was told of another end would refuse the rows that follow.
        if self.at_end:
            self.batch.close()

    @property
    def held(self) -> int:
        """How many rows were admitted and not yielded."""
        return self.batch.under_way + len(self.fresh) + len(self.early) + len(self.ready)

    def interrupted(self) -> BatchInterrupted:
        """Return what leaves the loop on Ctrl-C: with all that was not yielded."""
        self.stop()
        # What was on its way from one place to the next stands in both.
        left = {response.index: response for response in (*self.ready, *self.early.values(), *self.fresh)}
        indexes = sorted(left) if self.as_given else left
        journal = None if self.journal is None else self.journal.path
        return BatchInterrupted(Responses([left[index] for index in indexes], policy=self.plan, journal=journal))

    def stop(self) -> None:
        """Cancel what is under way and take all that has not been taken."""
        batch: Batch | None = getattr(self, "batch", None)
        # One that was let go of has nothing left.
        if batch is None:
            return
        batch.cancel()
        batch.admit(self.pulled)
        if batch.under_way:
            batch.take(batch.under_way, 1.0, self.fresh)

    def take(self) -> None:
        """Take what has ended; wait for something only when there is nothing else to do."""
        under_way = self.batch.under_way
        if not under_way:
            return
        full = self.exhausted or self.held >= self.window
        if self.ready or not full:
            self.batch.take(0, 0.0, self.fresh)
        # A few at once cost fewer awakenings; a lone one is not kept waiting for long.
        elif not self.batch.take(min(under_way, _PULL), 0.01, self.fresh):
            self.batch.take(1, 0.1, self.fresh)
        told = [] if self.each is None else [one for one in self.fresh if self.replays or not one.replayed]
        self.file()
        # When they are in their places: what is raised in there may be Ctrl-C, which hands over all that was not yielded.
        if self.each is not None and told:
            self.each(told)

    def file(self) -> None:
        """Put responses where they wait to be yielded."""
        if not self.as_given:
            self.ready.extend(self.fresh)
            self.fresh.clear()
            return
        self.early.update((response.index, response) for response in self.fresh)
        self.fresh.clear()
        while (following := self.early.get(self.yielded + len(self.ready))) is not None:
            self.ready.append(following)
            del self.early[following.index]


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
