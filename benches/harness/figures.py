"""The figures: what is measured, with which clients, and the bar that each has to meet.

A figure has rows (a client and its task), and bars: the quotient or difference of two rows of the same round, or one
row alone. What is compared with a bar is the median over the rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from harness.wires import Opened, Wire

MIB = 1024.0 * 1024.0


class Method(Enum):
    """How a row becomes one number a round."""

    MARGINAL = "a short and a long run; the difference, so that starting up does not count"
    WHOLE = "one run, starting up included"
    COLD = "the median of several processes that start, send and end"


OF_TESTKIT = ("/delay", "/peak")
"""What paths of the testkit begin with."""


class Quantity(Enum):
    """What of a row is compared, and in which unit."""

    CPU = "µs CPU a request"
    WALL = "s"
    PEAK = "MiB"
    BEYOND = "MiB beyond the body"


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
    streams: int = 1
    """Requests side by side on a connection."""
    wire: Wire | None = None
    """What it speaks, where not what the figure does."""
    path: str | None = None
    """What it asks for, where not what the figure does."""


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
    """The resource asked for; ``/delay/1`` and ``/peak`` are the testkit's, the others nginx's."""
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    yardstick: str
    """The row that the others are divided by in the table."""
    repeats: int = field(default=1)
    """Processes a row and round, for `Method.COLD`."""
    wire: Wire = Wire.H1
    opened: Opened = Opened.ANY


def rows(count: int, *clients: str, connections: int = 64, streams: int = 1) -> tuple[Row, ...]:
    """One row for each client, named after it."""
    return tuple(Row(client, client, count, connections, streams) for client in clients)


def quotient(quantity: Quantity, row: str, other: str, limit: float, aim: float | None = None) -> Bar:
    """`row` ÷ `other` must be at most `limit`."""
    return Bar(quantity, row, Against.QUOTIENT, other, limit, aim)


def slower(row: str, other: str, limit: float, aim: float | None = None) -> Bar:
    """A rival's CPU ÷ ours must be at least `limit`."""
    return Bar(Quantity.CPU, row, Against.QUOTIENT, other, limit, aim, at_least=True)


def alone(quantity: Quantity, row: str, limit: float, aim: float | None = None) -> Bar:
    """`row` itself must be at most `limit`."""
    return Bar(quantity, row, Against.ALONE, "", limit, aim)


def side_by_side(name: str, wire: Wire, connections: int, streams: int) -> Figure:
    """HTTP/2, many requests on each connection, against h2load."""
    over = "TLS" if wire.is_tls else "cleartext"
    plural = "s" if connections > 1 else ""
    clients = rows(200_000, "h2load", "engine-stream", "engine", "send", connections=connections, streams=streams)
    return Figure(
        name,
        f"CPU a request, 197 bytes of JSON, HTTP/2 over {over}: {connections} connection{plural} × {streams} streams",
        Method.MARGINAL,
        "/json",
        clients,
        tuple(quotient(Quantity.CPU, row, "h2load", 1.5, 1.1) for row in ("engine-stream", "engine")),
        "h2load",
        wire=wire,
        opened=Opened.EXACTLY,
    )


def huge(name: str, title: str, ways: dict[str, tuple[Wire, str]], doors: tuple[str, ...]) -> Figure:
    """One body of 1 GiB, in each of the `ways`, by each of the `doors`, and by curl, which keeps nothing."""
    lines = tuple(
        Row(f"{door}, {way}", door, 1, 1, wire=wire, path=path)
        for way, (wire, path) in ways.items()
        for door in ("curl", *doors)
    )
    bars = tuple(alone(Quantity.BEYOND, row.name, 64.0) for row in lines if row.client in doors)
    return Figure(
        name, title, Method.WHOLE, "/huge.bin", lines, bars, f"curl, {next(iter(ways))}", opened=Opened.EXACTLY
    )


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
            "limits",
            "CPU a request with a limit: one that never binds, and 20,000 a second; "
            "and with rows that come at that pace",
            Method.MARGINAL,
            "/json",
            rows(200_000, "engine-stream", "engine-wide", "engine-offered", "engine-paced"),
            (
                quotient(Quantity.CPU, "engine-wide", "engine-stream", 1.1),
                quotient(Quantity.CPU, "engine-paced", "engine-offered", 1.1),
                quotient(Quantity.CPU, "engine-paced", "engine-stream", 1.1),
            ),
            "engine-stream",
        ),
        Figure(
            "journal",
            "100,000 rows with a journal: offered at 20,000 a second, and as fast as they go",
            Method.WHOLE,
            "/json",
            rows(100_000, "engine-paced", "engine-paced-journal", "engine-stream", "engine-journal"),
            # 85 % of the rows a second take 1.18 times as long.
            (quotient(Quantity.WALL, "engine-paced-journal", "engine-paced", 1.18),),
            "engine-paced",
        ),
        Figure(
            "adaptive",
            "5,000 rows for a server that does best with 25 at once and refuses more than 50",
            Method.WHOLE,
            "/peak?at=25&most=50&service=20ms",
            (
                Row("13 at once", "engine-fixed", 5_000, connections=13),
                Row("25 at once", "engine-fixed", 5_000, connections=25),
                Row("50 at once", "engine-fixed", 5_000, connections=50),
                Row("found, aimd", "engine-aimd", 5_000, connections=400),
                Row("found, gradient2", "engine-gradient2", 5_000, connections=400),
            ),
            # 90 % of the best fixed setting take 1.11 times as long.
            (
                quotient(Quantity.WALL, "found, aimd", "25 at once", 1.11),
                quotient(Quantity.WALL, "found, gradient2", "25 at once", 1.11),
            ),
            "25 at once",
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
        Figure(
            "tls_small",
            "CPU a request, 197 bytes of JSON over 64 connections, HTTP/1.1 over TLS",
            Method.MARGINAL,
            "/json",
            rows(200_000, "h2load", "engine-stream", "engine", "send", "pycurl", "pycurl-bare")
            # Clump sets its own number.
            + rows(200_000, "clump", connections=100),
            (
                quotient(Quantity.CPU, "engine-stream", "h2load", 1.0, 0.85),
                quotient(Quantity.CPU, "engine", "h2load", 1.0, 0.85),
                slower("pycurl", "clump", 2.0),
            ),
            "h2load",
            wire=Wire.TLS_H1,
            opened=Opened.AT_MOST,
        ),
        side_by_side("tls_h2", Wire.TLS_H2, 4, 64),
        side_by_side("h2c_one", Wire.H2C, 1, 100),
        side_by_side("h2c_four", Wire.H2C, 4, 64),
        Figure(
            "origins_1k",
            "1,000 origins × 10 requests, in turn, 100 requests at once",
            Method.WHOLE,
            "/json",
            rows(10_000, "curl", "engine-stream", "engine", "send", connections=100),
            tuple(
                quotient(quantity, row, "curl", 1.0)
                for quantity in (Quantity.WALL, Quantity.CPU)
                for row in ("engine", "send")
            ),
            "curl",
            wire=Wire.ORIGINS,
        ),
        Figure(
            "closing",
            "CPU a request where every answer closes its connection, 64 at once",
            Method.MARGINAL,
            "/close",
            rows(20_000, "h2load", "engine-stream", "engine", "wrk", "curl"),
            (),
            "h2load",
            opened=Opened.ONE_EACH,
        ),
        Figure(
            "closing_tls",
            "The same over TLS 1.3: sessions taken up again, and full handshakes",
            Method.MARGINAL,
            "/close",
            (
                *rows(5_000, "h2load", "engine-stream", "curl"),
                *(
                    Row(f"{client}, full", client, 5_000, wire=Wire.FRESH_H1)
                    for client in ("h2load", "engine-stream", "curl")
                ),
            ),
            (),
            "h2load",
            wire=Wire.TLS_H1,
            opened=Opened.ONE_EACH,
        ),
        huge(
            "huge_down",
            "A download of 1 GiB",
            {
                "HTTP/1.1": (Wire.H1, "/huge.bin"),
                "TLS": (Wire.TLS_H1, "/huge.bin"),
                "HTTP/2": (Wire.TLS_H2, "/huge.bin"),
                "chunked": (Wire.H1, "/unsized.bin"),
                "ended by close": (Wire.H1, "/ending.bin"),
                "HTTP/2 unsized": (Wire.TLS_H2, "/unsized.bin"),
            },
            ("engine", "send"),
        ),
        huge(
            "huge_up",
            "An upload of 1 GiB",
            {
                "HTTP/1.1": (Wire.H1, "/uploads/huge"),
                "TLS": (Wire.TLS_H1, "/uploads/huge"),
                "HTTP/2": (Wire.TLS_H2, "/uploads/huge"),
            },
            ("engine", "send"),
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
            # Connections are dear: where each request has its own, only fewer can be asked for.
            dear = figure.opened is Opened.ONE_EACH
            kept = [replace(row, count=min(requests, row.count) if dear else requests) for row in kept]
        left = {row.name for row in kept}
        bars = tuple(bar for bar in figure.bars if bar.row in left and (not bar.other or bar.other in left))
        figures.append(replace(figure, rows=tuple(kept), bars=bars))
    return figures
