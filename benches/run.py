#!/usr/bin/env python3
"""Measure loamy and its rivals side by side, and hold the figures against their bars.

    python3 benches/run.py                                     everything, about half an hour
    python3 benches/run.py --figure cpu_small --only clump     one figure, one client and its yardstick

Ends with 0 when every bar was met, 1 when a client failed or is missing, 2 when a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from harness import report
from harness.clients import CLIENTS
from harness.environments import CHECKOUT, WORK, Environments, Missing, machine
from harness.figures import FIGURES, OF_TESTKIT, Figure, chosen
from harness.nginx import Nginx
from harness.processes import raise_descriptor_limit
from harness.rounds import Bench, Result
from harness.servers import Testkit


def main() -> int:
    """Set up, measure, print."""
    options = arguments()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for the client")
    descriptors = raise_descriptor_limit()
    WORK.mkdir(exist_ok=True)
    environments = Environments(options.our_python)
    figures = chosen(options.figure, options.only, options.requests)

    missing = make_ready(environments, figures)
    surroundings = machine()
    results = []
    for figure in figures:
        try:
            result = measure(figure, environments, cores, descriptors, options.rounds)
        except (Missing, RuntimeError) as error:
            result = Result(figure, [], {row.name: str(error) for row in figure.rows}, {})
        results.append(result)
        print(f"\n{report.table(result)}\n\n{report.bar_table(report.bars(result))}", flush=True)

    versions = environments.versions()
    print("\n" + " · ".join(f"{key} {value}" for key, value in surroundings.items()))
    print(" · ".join(f"{name} {version}" for name, version in versions.items()))
    if options.json:
        content = report.document(results, surroundings, versions)
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return verdict(results, missing)


def make_ready(environments: Environments, figures: list[Figure]) -> list[str]:
    """Make every environment and program that the figures need before anything is measured; name what is missing."""
    needs = {CLIENTS[row.client].needs for figure in figures for row in figure.rows}
    servers = {
        name
        for figure in figures
        for name in (("testkit",) if figure.path.startswith(OF_TESTKIT) else ("nginx", "openssl"))
    }
    missing = []
    for name in sorted(needs | servers):
        try:
            environments.program(name)
        except Missing as error:
            missing.append(str(error))
            print(f"missing: {error}", file=sys.stderr)
    return missing


def measure(figure: Figure, environments: Environments, cores: list[int], descriptors: int, rounds: int) -> Result:
    """One figure against its server, which is started for it and stopped after it."""
    server_core, client_core = cores[0], cores[1]
    server: Nginx | Testkit
    if figure.path.startswith(OF_TESTKIT):
        server = Testkit(environments.program("testkit"), server_core)
    else:
        server = Nginx(
            environments.program("nginx"),
            environments.program("openssl"),
            WORK / "nginx",
            server_core,
            descriptors,
        )
    try:
        return Bench(server, client_core, environments).measure(figure, rounds)
    finally:
        server.stop()


def verdict(results: list[Result], missing: list[str]) -> int:
    """The exit code, with its reasons printed."""
    for line in report.complaints(results):
        print(line, file=sys.stderr)
    judged = [bar for result in results for bar in report.bars(result)]
    missed = [bar for bar in judged if bar["met"] is False]
    print(f"\n{sum(bar['met'] is True for bar in judged)} of {len(judged)} bars met")
    for bar in missed:
        print(f"missed: {bar['bar']} ({bar['what']}): {bar['value']:.3f}, bar {bar['limit']:g}")
    if missing or any(result.failed or result.absent for result in results):
        return 1
    return 2 if missed else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--figure", action="append", default=[], choices=list(FIGURES), help="measure this figure; may be repeated"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=list(CLIENTS),
        metavar="CLIENT",
        help="only this client and the yardstick; may be repeated",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each figure (default 5)")
    parser.add_argument(
        "--requests", type=int, help="requests of the long runs where CPU is compared, before a client's share"
    )
    parser.add_argument(
        "--our-python",
        type=Path,
        default=CHECKOUT / ".venv" / "bin" / "python",
        help="a Python with this package installed",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    options = parser.parse_args()
    if options.rounds < 1 or (options.requests is not None and options.requests < 1000):
        parser.error("--rounds is at least 1, --requests at least 1000")
    return options


if __name__ == "__main__":
    sys.exit(main())
