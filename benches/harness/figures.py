"""The figures: what is measured, with which clients, and the bar that each has to meet.

A figure has rows (a client and its task), and bars: the quotient or difference of two rows of the same round, or one
row alone. What is compared with a bar is the median over the rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

MIB = 1024.0 * 1024.0


class Method(Enum):
    """How a row becomes one number a round."""

    MARGINAL = "a short and a long run; the difference, so that starting up does not count"
    WHOLE = "one run, starting up included"
    COLD = "the median of several processes that start, send and end"


class Quantity(Enum):
    """What of a row is compared, and in which unit."""

    CPU = "µs CPU a request"
    WALL = "s"
    PEAK = "MiB"


class Against(Enum):
    """How the second row of a bar comes in."""

    QUOTIENT = "÷"
    DIFFERENCE = "−"
    ALONE = ""


@dataclass(frozen=True)
class Row:
    """One line of a figure's table."""

    name: str
    client: str
    count: int
    """Requests of the (long) run, before the client's share."""
    connections: int = 64


@dataclass(frozen=True)
class Bar:
    """What a figure is asked to reach."""

    quantity: Quantity
    row: str
    against: Against
    other: str
    limit: float
    aim: float | None = None
    at_least: bool = False

    def text(self) -> str:
        """What is compared, in words."""
        pair = f"{self.row} {self.against.value} {self.other}" if self.other else self.row
        unit = "" if self.against is Against.QUOTIENT else f", {self.quantity.value}"
        return f"{pair}{unit}"

    def value(self, row: float, other: float) -> float:
        """The number of one round."""
        if self.against is Against.QUOTIENT:
            return row / other
        return row - other if self.against is Against.DIFFERENCE else row

    def holds(self, value: float) -> bool:
        """Whether `value` meets the bar."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Figure:
    """One table and its bars."""

    name: str
    title: str
    method: Method
    path: str
    """The resource asked for; ``/delay/1`` is the testkit's, the others nginx's."""
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    yardstick: str
    """The row that the others are divided by in the table."""
    repeats: int = field(default=1)
    """Processes a row and round, for `Method.COLD`."""


def rows(count: int, *clients: str, connections: int = 64) -> tuple[Row, ...]:
    """One row for each client, named after it."""
    return tuple(Row(client, client, count, connections) for client in clients)


def quotient(quantity: Quantity, row: str, other: str, limit: float, aim: float | None = None) -> Bar:
    """`row` ÷ `other` must be at most `limit`."""
    return Bar(quantity, row, Against.QUOTIENT, other, limit, aim)


def slower(row: str, other: str, limit: float, aim: float) -> Bar:
    """A rival's CPU ÷ ours must be at least `limit`."""
    return Bar(Quantity.CPU, row, Against.QUOTIENT, other, limit, aim, at_least=True)


def alone(quantity: Quantity, row: str, limit: float, aim: float | None = None) -> Bar:
    """`row` itself must be at most `limit`."""
    return Bar(quantity, row, Against.ALONE, "", limit, aim)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "cpu_small",
            "CPU a request, 197 bytes of JSON over 64 connections",
            Method.MARGINAL,
            "/json",
            rows(
                200_000,
                "h2load",
                "engine-stream",
                "engine",
                "clump",
                "send",
                "zsession",
                "wrk",
                "pycurl",
                "pycurl-bare",
                "floodr",
            )
            + rows(200_000, "pyreqwest", "aiohttp", "loamy-0.0.10", "httpx", "requests"),
            (
                # Both throw away what they have read; `engine` holds the list besides.
                quotient(Quantity.CPU, "engine-stream", "h2load", 1.0, 0.85),
                quotient(Quantity.CPU, "engine", "h2load", 1.0, 0.85),
                quotient(Quantity.CPU, "clump", "h2load", 1.3, 1.1),
                slower("pycurl", "clump", 2.1, 3.0),
                slower("aiohttp", "clump", 12.0, 15.0),
                slower("loamy-0.0.10", "clump", 15.0, 20.0),
            ),
            "h2load",
        ),
        Figure(
            "body_64k",
            "CPU a request, bodies of 64 KiB over 64 connections",
            Method.MARGINAL,
            "/large.bin",
            rows(20_000, "curl", "engine-stream", "stream", "h2load", "pycurl-bare"),
            (quotient(Quantity.CPU, "engine-stream", "curl", 1.0), quotient(Quantity.CPU, "stream", "curl", 1.0)),
            "curl",
        ),
        Figure(
            "delay_10k",
            "10,000 answers of 1 s each, 10,000 at once, connections included",
            Method.WHOLE,
            "/delay/1",
            rows(10_000, "send", "engine", "h2load", "aiohttp", connections=10_000),
            tuple(
                bar
                for row in ("send", "engine")
                for bar in (alone(Quantity.WALL, row, 2.5), alone(Quantity.PEAK, row, 250.0, 100.0))
            ),
            "h2load",
        ),
        Figure(
            "cold_3",
            "A cold process that sends 3 rows",
            Method.COLD,
            "/json",
            rows(3, "clump", "loamy-0.0.10", "send"),
            (quotient(Quantity.WALL, "clump", "loamy-0.0.10", 0.25, 0.2),),
            "loamy-0.0.10",
            repeats=7,
        ),
        Figure(
            "memory_list",
            "100,000 responses held in a list",
            Method.WHOLE,
            "/json",
            rows(100_000, "clump", "loamy-0.0.10", "send"),
            (quotient(Quantity.PEAK, "clump", "loamy-0.0.10", 0.25),),
            "loamy-0.0.10",
        ),
        Figure(
            "memory_stream",
            "Responses streamed and dropped",
            Method.WHOLE,
            "/json",
            (Row("stream-1m", "stream", 1_000_000), Row("stream-100k", "stream", 100_000)),
            (Bar(Quantity.PEAK, "stream-1m", Against.DIFFERENCE, "stream-100k", 32.0),),
            "stream-100k",
        ),
    )
}


def chosen(names: list[str], only: list[str], requests: int | None) -> list[Figure]:
    """The figures to measure, with the rows and counts that the command line left.

    Args:
        names: Figures; all when empty.
        only: Clients; all when empty. The yardstick of a figure always stays.
        requests: The count of the long runs of the figures that compare CPU, instead of their own.
    """
    figures = []
    for figure in FIGURES.values():
        if names and figure.name not in names:
            continue
        kept = [row for row in figure.rows if not only or row.client in only or row.name == figure.yardstick]
        if only and not any(row.client in only for row in kept):
            continue
        if requests is not None and figure.method is Method.MARGINAL:
            kept = [replace(row, count=requests) for row in kept]
        left = {row.name for row in kept}
        bars = tuple(bar for bar in figure.bars if bar.row in left and (not bar.other or bar.other in left))
        figures.append(replace(figure, rows=tuple(kept), bars=bars))
    return figures
