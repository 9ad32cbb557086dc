"""Whose an exception is: Python runs signal handlers in the midst of whatever its main thread is at."""

from __future__ import annotations

from inspect import CO_VARARGS
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType


def is_handlers(trace: TracebackType) -> bool:
    """Whether an exception of that trace was raised by a signal handler, not by the code that the handler interrupted."""
    passed: TracebackType | None = trace
    while passed is not None:
        if _is_handler(passed.tb_frame):
            return True
        passed = passed.tb_next
    return False


def _is_handler(frame: FrameType) -> bool:
    # Whatever is installed by now: a handler is what is called with a number and the frame that it interrupts, its own caller.
    caller, code = frame.f_back, frame.f_code
    if caller is None:
        return False
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
    given: list[Any] = []
    for name in code.co_varnames[:count]:
        value = frame.f_locals.get(name)
        given.extend(value if type(value) is tuple else (value,))
    return any(isinstance(number, int) and interrupted is caller for number, interrupted in pairwise(given))
