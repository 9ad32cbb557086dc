"""Runs inside one environment: plays every scenario against the package there and prints what was seen as JSON.

    python observe.py --package loamy --example example.txt > seen.json

What the caller got and what the server received stand side by side. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.metadata
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import scenarios_answers
import scenarios_calling
import scenarios_classes
import scenarios_requests
from door import Door
from scene import SCENARIOS, Scenario, Scene, flattened

ROOMS = (scenarios_answers, scenarios_calling, scenarios_classes, scenarios_requests)
LONGEST_RUN = 240
"""Seconds; a run takes a tenth of it. After that all stacks are printed and the program ends."""


def documented_example(package: str) -> str:
    """The Python block under `### Example` in the description that the installed distribution carries."""
    description = str(importlib.metadata.metadata(package).json["description"])
    section = description.split("### Example", 1)[1]
    return section.split("```python\n", 1)[1].split("```", 1)[0]


def play(scenario: Scenario, door: Door, example: str) -> dict[str, Any]:
    scene = Scene(example)
    try:
        return scene.even_out(scenario.play(door, scene))  # type: ignore[no-any-return]
    except Exception as error:
        traceback.print_exc()
        return {"the scenario broke": repr(error)}


def as_lines(seen: dict[str, dict[str, Any]]) -> str:
    """JSON with one fact a line, so that a change of one fact is a change of one line."""
    blocks = []
    for name, told in seen.items():
        facts = sorted(flattened(told).items())
        lines = (f"  {json.dumps(path)}: {json.dumps(value, sort_keys=True, allow_nan=False)}" for path, value in facts)
        blocks.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", choices=["loamy", "zconcurrent"], required=True)
    parser.add_argument("--example", type=Path, help="file with the documentation's example")
    parser.add_argument("--print-example", action="store_true", help="print that example and end")
    parser.add_argument("--only", nargs="*", help="names of scenarios; all of them by default")
    chosen = parser.parse_args()
    if chosen.print_example:
        sys.stdout.write(documented_example(chosen.package))
        return
    faulthandler.dump_traceback_later(LONGEST_RUN, exit=True)
    example = chosen.example.read_text() if chosen.example else documented_example(chosen.package)
    door = Door(chosen.package)
    seen = {
        scenario.name: play(scenario, door, example)
        for scenario in SCENARIOS.values()
        if chosen.package in scenario.packages and scenario.name in (chosen.only or SCENARIOS)
    }
    sys.stdout.write(as_lines(seen))


if __name__ == "__main__":
    main()
