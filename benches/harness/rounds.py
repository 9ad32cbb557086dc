"""The measuring itself: rounds over the rows of a figure, so that what is compared was measured side by side."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

from harness.clients import CLIENTS, Client, prepare
from harness.environments import Environments, Missing
from harness.figures import MIB, Figure, Method, Quantity, Row
from harness.nginx import Nginx
from harness.processes import ProcessFailed, Usage, run
from harness.servers import Seen, Testkit
from harness.wires import Opened, Task

# The long run of a marginal measurement is so many times the short one.
LONGER = 10
SECONDS = (1, 3)


@dataclass(frozen=True)
class Sample:
    """One row in one round."""

    cpu: float
    """Microseconds a request."""
    rate: float
    """Requests a second."""
    wall: float
    """Seconds, start and end of the process included."""
    peak: float
    """MiB."""
    count: int
    connections: int
    """Connections that the server saw in the (long) run."""
    resumed: int = 0
    """How many of them took up an earlier TLS session."""
    beyond: float = 0.0
    """MiB of `peak` beyond the body that was sent or received."""
    volume: float = 0.0
    """MiB of bodies a second."""

    def of(self, quantity: Quantity) -> float:
        """The number that a bar compares."""
        return {
            Quantity.CPU: self.cpu,
            Quantity.WALL: self.wall,
            Quantity.PEAK: self.peak,
            Quantity.BEYOND: self.beyond,
        }[quantity]


@dataclass
class Result:
    """What came of one figure."""

    figure: Figure
    rounds: list[dict[str, Sample]]
    absent: dict[str, str]
    """Rows that could not be measured because something is missing, and what installs it."""
    failed: dict[str, str]
    """Rows that gave a wrong answer or ended with an error: they count for nothing."""

    def samples(self, row: str) -> list[Sample]:
        """What was measured of `row`, one for each round."""
        return [one[row] for one in self.rounds if row in one]


@dataclass(frozen=True)
class Bench:
    """The place of a measurement: a server, the core of the clients, their programs."""

    server: Nginx | Testkit
    core: int
    environments: Environments

    def measure(self, figure: Figure, rounds: int) -> Result:
        """All rows of `figure`, `rounds` times, each round beginning with another row."""
        result = Result(figure, [], {}, {})
        for index in range(rounds):
            shift = index % len(figure.rows)
            samples: dict[str, Sample] = {}
            for row in figure.rows[shift:] + figure.rows[:shift]:
                if row.name in result.absent or row.name in result.failed:
                    continue
                show(f"{figure.name}: round {index + 1} of {rounds}, {row.name}")
                try:
                    samples[row.name] = self.sample(figure, row)
                except Missing as error:
                    result.absent[row.name] = str(error)
                except (ProcessFailed, ValueError) as error:
                    result.failed[row.name] = str(error)
            result.rounds.append(samples)
        show("")
        return result

    def sample(self, figure: Figure, row: Row) -> Sample:
        """One row, once."""
        client = CLIENTS[row.client]
        if figure.method is Method.MARGINAL:
            short, long = lengths(client, row)
            few, few_right, _ = self.exchange(figure, row, short)
            many, right, seen = self.exchange(figure, row, long)
            more = right - few_right
            return Sample(
                (many.cpu - few.cpu) / more * 1e6,
                more / (long - short if client.timed else many.wall - few.wall),
                many.wall,
                many.peak / MIB,
                right,
                seen.connections,
                seen.resumed,
            )
        repeats = figure.repeats if figure.method is Method.COLD else 1
        runs = [self.exchange(figure, row, row.count) for _ in range(repeats)]
        wall = statistics.median(usage.wall for usage, _, _ in runs)
        cpu = statistics.median(usage.cpu for usage, _, _ in runs)
        peak = max(usage.peak for usage, _, _ in runs)
        _, right, seen = runs[-1]
        size = self.size(figure, row)
        return Sample(
            cpu / right * 1e6,
            right / wall,
            wall,
            peak / MIB,
            right,
            seen.connections,
            seen.resumed,
            (peak - size) / MIB,
            right * size / wall / MIB,
        )

    def exchange(self, figure: Figure, row: Row, count: int) -> tuple[Usage, int, Seen]:
        """Run one client once; the right answers and what the server saw come with what it cost.

        Raises:
            Missing: What the client needs is not there.
            ProcessFailed: It ended with an error or too late.
            ValueError: An answer was wrong or missing, or the server saw other requests or connections than it should.
        """
        client = CLIENTS[row.client]
        self.server.begin()
        task = self.task(figure, row, count)
        usage = run(prepare(client, self.environments, task), self.core, task.roots)
        right = client.answered(usage, task)
        if not client.timed and right != task.count:
            raise ValueError(f"{right} right answers to {task.count} requests")
        seen = self.server.seen()
        # A client that stops by the clock leaves what is under way, and wrk tries the address before it begins.
        spare = task.connections + 1 if client.timed else 0
        if not right <= seen.requests <= right + spare:
            raise ValueError(f"{right} answers, but the server saw {seen.requests} requests")
        check_opened(figure.opened, seen.connections, row.connections, right, spare)
        self.server.check(task)
        return usage, right, seen

    def task(self, figure: Figure, row: Row, count: int) -> Task:
        """What the client of `row` is to do now."""
        wire = row.wire or figure.wire
        there = self.server.resource(wire, row.path or figure.path)
        return Task(there.url, count, row.connections, row.streams, wire, there.body, there.upload, there.roots)

    def size(self, figure: Figure, row: Row) -> int:
        """Bytes of the body that one request of `row` sends or brings."""
        there = self.server.resource(row.wire or figure.wire, row.path or figure.path)
        file = there.upload or there.body
        return file.stat().st_size if file else 0


def check_opened(opened: Opened, seen: int, given: int, right: int, spare: int) -> None:
    """Hold the connections that the server saw against what the figure asks for.

    Raises:
        ValueError: They are too many, or not the number that was to be.
    """
    if opened is Opened.AT_MOST and seen > given:
        raise ValueError(f"{seen} connections, but {given} were allowed")
    if opened is Opened.EXACTLY and seen != given:
        raise ValueError(f"{seen} connections instead of {given}")
    if opened is Opened.ONE_EACH and not right <= seen <= right + spare:
        raise ValueError(f"{seen} connections for {right} answers, each of which ended its own")


def lengths(client: Client, row: Row) -> tuple[int, int]:
    """The counts of the short and the long run; the short one uses every connection at least once."""
    if client.timed:
        return SECONDS
    short = max(row.connections, round(row.count * client.share) // LONGER)
    return short, short * LONGER


def show(line: str) -> None:
    """One changing line on a terminal, none elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
