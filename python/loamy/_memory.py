"""Whether what comes of a list of rows can be held at all (`loamy.stream` holds only what is under way)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from loamy._loamy import memory_limit
from loamy.errors import TooManyRows

if TYPE_CHECKING:
    from collections.abc import Iterable

_FEW = 100_000
"""What comes of so many rows fits wherever Python itself does: nobody has to look."""

_BESIDE = 32
"""Bytes that each outcome needs beside its own object, at the least: its places in two lists, and a URL or an error."""


def listed(rows: Iterable[Any], outcome: type[Any]) -> list[Any]:
    """Return the rows as a list, of which each becomes an outcome of that class.

    Raises:
        TooManyRows: when so many outcomes cannot fit, whatever the answers are; an iterator is asked for no more rows then.

    """
    if type(rows) is list:
        check_room(len(rows), outcome)
        return rows
    try:
        check_room(len(rows), outcome)  # type: ignore[arg-type] # some have a length
    except (TypeError, NotImplementedError):
        pass
    else:
        return list(rows)
    source = iter(rows)
    drawn = list(islice(source, _FEW))
    if len(drawn) == _FEW:
        limit = memory_limit()
        drawn.extend(source if limit is None else islice(source, max(0, limit // least(outcome) + 1 - _FEW)))
        check_room(len(drawn), outcome)
    return drawn


def check_room(rows: int, outcome: type[Any]) -> None:
    """Refuse more rows than there is memory for outcomes of that class.

    Raises:
        TooManyRows: when even empty answers could not fit.

    """
    if rows <= _FEW:
        return
    limit, needed = memory_limit(), rows * least(outcome)
    if limit is not None and needed > limit:
        raise TooManyRows(
            f"what comes of {rows:,} rows takes {_gigabytes(needed)} at the least, and this process can have {_gigabytes(limit)}",
            "loamy.stream(rows) holds only what is under way, however many rows there are",
            rows,
            needed,
            limit,
        )


def least(outcome: type[Any]) -> int:
    """Return the bytes that one outcome of that class holds, with an empty body and no headers."""
    size: int = outcome.__basicsize__
    return size + _BESIDE


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
