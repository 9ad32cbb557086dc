"""What a call wants of its journal, checked before anything is sent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from loamy.policy import check_flag

if TYPE_CHECKING:
    from loamy.policy import Policy


class Recorded(NamedTuple):
    """What a batch is told of its journal; the binding reads it as a tuple."""

    path: str
    retry_failed: bool
    resend_in_doubt: bool
    keep_good: bool


def recorded_by(
    path: str | os.PathLike[str] | None, plan: Policy, retry_failed: bool, resend_in_doubt: bool, keep_good: bool
) -> Recorded | None:
    """Return what a batch is to be told of its journal.

    Raises:
        TypeError: for a path that is none, a wish that is no bool, or one that only a journal can fulfil.
        ValueError: for a path that is empty, and for keys that would not outlast this call.

    """
    wishes = {"retry_failed": retry_failed, "resend_in_doubt": resend_in_doubt, "keep_good": keep_good}
    for name, wish in wishes.items():
        check_flag(name, wish)
    if path is None:
        for name, wish in wishes.items():
            if wish:
                raise TypeError(f"{name}=True says what a journal's rows are for\nhint: pass journal='run.loamy' too")
        return None
    if isinstance(path, bytes) or not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"journal must be a path, not {type(path).__name__}")
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"journal must be a path of str, not of {type(name).__name__}")
    if not name:
        raise ValueError("journal is empty\nhint: it is the path of a file, such as 'run.loamy'")
    if plan.idempotency == "auto" and plan.job is None:
        raise ValueError(
            "idempotency='auto' makes other keys in each call, so a row that is sent again after a crash would be paid twice"
            "\nhint: name the job: job='invoices-2026-11'"
        )
    return Recorded(name, retry_failed, resend_in_doubt, keep_good)
