"""What is printed and written: a table and the bars of each figure, the machine, the versions."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from harness.clients import CLIENTS
from harness.figures import MIB, Bar, Figure, Quantity
from harness.processes import floor
from harness.rounds import Result, Sample


def table(result: Result) -> str:
    """The rows of a figure as a Markdown table: medians, and in brackets the lowest and highest round."""
    figure = result.figure
    quantity = compared(figure)
    lines = [
        f"### {figure.name}: {figure.title}",
        "",
        f"{len(result.rounds)} rounds; each row is {figure.method.value}.",
        "",
        "| client | requests | connections | µs CPU a request | requests/s | wall s | peak MiB "
        f"| {quantity.name.lower()} ÷ {figure.yardstick} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    if is_about_volume(figure):
        lines[-2] += " MiB/s | MiB beyond the body |"
        lines[-1] += "--:|--:|"
    for row in figure.rows:
        samples = result.samples(row.name)
        reason = result.failed.get(row.name) or result.absent.get(row.name)
        if reason is not None or not samples:
            lines.append(f"| {row.name} | not measured: {reason or 'no round'} |||||||")
            continue
        ratio = paired(result, quantity, row.name, figure.yardstick)
        cells = [
            row.name,
            f"{middle([float(s.count) for s in samples]):,.0f}",
            connections(samples),
            spread([s.cpu for s in samples], 2),
            f"{middle([s.rate for s in samples]):,.0f}",
            f"{middle([s.wall for s in samples]):.3f}",
            peak(samples),
            f"{middle(ratio):.2f}" if ratio else "",
        ]
        if is_about_volume(figure):
            # curl keeps nothing, so there is no body in its memory.
            beyond = "" if row.client == "curl" else spread([s.beyond for s in samples], 0)
            cells += [f"{middle([s.volume for s in samples]):,.0f}", beyond]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bars(result: Result) -> list[dict[str, Any]]:
    """Each bar of a figure with what was measured; `met` is None where it could not be."""
    judged = []
    for bar in result.figure.bars:
        values = [
            bar.value(one[bar.row].of(bar.quantity), one[bar.other].of(bar.quantity) if bar.other else 0.0)
            for one in result.rounds
            if bar.row in one and (not bar.other or bar.other in one)
        ]
        value = middle(values) if values else None
        judged.append(
            {
                "bar": bar.text(),
                "what": bar.quantity.name.lower(),
                "limit": bar.limit,
                "at_least": bar.at_least,
                "aim": bar.aim,
                "value": value,
                "rounds": values,
                "met": None if value is None else bar.holds(value),
                "aim_met": None if value is None or bar.aim is None else reaches(bar, value),
            }
        )
    return judged


def reaches(bar: Bar, value: float) -> bool:
    """Whether `value` reaches the aim of `bar`."""
    if bar.aim is None:
        return False
    return value >= bar.aim if bar.at_least else value <= bar.aim


def bar_table(judged: list[dict[str, Any]]) -> str:
    """The bars as a Markdown table."""
    lines = ["| measured | what | median | lowest – highest round | bar | aim | |", "|---|---|--:|--:|--:|--:|---|"]
    for one in judged:
        sign = "≥" if one["at_least"] else "≤"
        if one["value"] is None:
            value, rounds, verdict = "", "", "not measured"
        else:
            value = f"{one['value']:.3f}"
            rounds = f"{min(one['rounds']):.3f} – {max(one['rounds']):.3f}"
            verdict = "MISSED" if not one["met"] else "met, aim too" if one["aim_met"] else "met"
        aim = "" if one["aim"] is None else f"{one['aim']:g}"
        lines.append(
            f"| {one['bar']} | {one['what']} | {value} | {rounds} | {sign} {one['limit']:g} | {aim} | {verdict} |"
        )
    return "\n".join(lines)


def document(results: list[Result], machine: dict[str, str], versions: dict[str, str]) -> dict[str, Any]:
    """All that was measured, for ``--json``."""
    return {
        "machine": machine,
        "versions": versions,
        "figures": [
            {
                "name": result.figure.name,
                "title": result.figure.title,
                "method": result.figure.method.value,
                "rounds": [{row: asdict(sample) for row, sample in one.items()} for one in result.rounds],
                "failed": result.failed,
                "absent": result.absent,
                "bars": bars(result),
            }
            for result in results
        ],
    }


def compared(figure: Figure) -> Quantity:
    """The quantity that is divided in a figure's table."""
    return Quantity.CPU if not figure.bars or is_about_volume(figure) else figure.bars[0].quantity


def is_about_volume(figure: Figure) -> bool:
    """Whether a figure is about the memory beyond large bodies."""
    return any(bar.quantity is Quantity.BEYOND for bar in figure.bars)


def connections(samples: list[Sample]) -> str:
    """The most that the server saw, and how many of them took up an earlier TLS session."""
    most = max(samples, key=lambda sample: sample.connections)
    return f"{most.connections:,}" + (f" ({most.resumed:,} resumed)" if most.resumed else "")


def paired(result: Result, quantity: Quantity, row: str, other: str) -> list[float]:
    """`row` ÷ `other`, round by round."""
    return [one[row].of(quantity) / one[other].of(quantity) for one in result.rounds if row in one and other in one]


def peak(samples: list[Sample]) -> str:
    """Peak memory, or the bound below which this harness cannot see."""
    highest = middle([sample.peak for sample in samples])
    return f"{highest:.0f}" if highest > floor() / MIB + 1 else f"< {floor() / MIB + 1:.0f}"


def spread(values: list[float], digits: int) -> str:
    """Median, and the range of the rounds."""
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def complaints(results: list[Result]) -> list[str]:
    """What went wrong, a line each: wrong answers and failures first, then what is missing."""
    failed = [f"{r.figure.name}: {row} FAILED: {reason}" for r in results for row, reason in r.failed.items()]
    reasons = {
        reason: CLIENTS[row.client].name for r in results for row in r.figure.rows if (reason := r.absent.get(row.name))
    }
    return failed + [f"{name} not measured: {reason}" for reason, name in reasons.items()]
