"""Whose an exception is: Python runs signal handlers in the midst of whatever its main thread is at."""

from __future__ import annotations

import signal
from functools import partial
from inspect import CO_VARARGS
from itertools import pairwise
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType


def is_handlers(trace: TracebackType) -> bool:
    """Whether an exception of that trace was raised by a signal handler, not by the code that the handler interrupted."""
    frames: list[FrameType] = []
    passed: TracebackType | None = trace
    while passed is not None:
        frames.append(passed.tb_frame)
        passed = passed.tb_next
    if any(map(_is_called_as_handler, frames)):
        return True
    # One that has thrown its arguments away is known by its code.
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    return any(frame.f_code in codes for frame in frames)


def _code_of(handler: Any) -> CodeType | None:
    """Return the code that runs first where a handler is called; None where it is not written in Python."""
    if not callable(handler):
        return None
    while isinstance(handler, partial):
        handler = handler.func
    called = handler if isinstance(handler, (FunctionType, MethodType)) else type(handler).__call__
    return getattr(called, "__code__", None)


def _is_called_as_handler(frame: FrameType) -> bool:
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
