"""The same observations of the published packages and of ours, compared fact by fact.

`seen-loamy.json` and `seen-zconcurrent.json` hold what the published packages were seen to do (`observe.py` writes
them, run in their environments). Ours must do the same but for `differences.py`. Needs three interpreters, named by
environment variables; without them it fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import observe
import pytest
from differences import ABSENT, BOTH, TABLE, Difference
from environments import OURS, VARIABLES
from scene import SCENARIOS

HERE = Path(__file__).parent
DECISIONS = tuple(f"K{number}" for number in range(1, 22))
CASES = [
    pytest.param(package, scenario.name, id=f"{package}-{scenario.name}")
    for package in BOTH
    for scenario in SCENARIOS.values()
    if package in scenario.packages
]
HOW_TO_MAKE = {
    **dict.fromkeys(
        VARIABLES.values(),
        "run `python tests/contract/environments.py DIRECTORY`, which builds the published packages and prints it",
    ),
    OURS: "install the wheels of both distributions into an empty virtual environment and name its interpreter",
}


def interpreter(variable: str) -> str:
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"{variable} is not set: {HOW_TO_MAKE[variable]}")
    return path


@cache
def ran_once(python: str, package: str, *arguments: str) -> tuple[str, str]:
    """What the observer printed and, if it failed, why. A failure is kept as well: it may have taken minutes.

    It runs outside the checkout, so that only what is installed is imported.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        ran = subprocess.run(
            [python, str(HERE / "observe.py"), "--package", package, *arguments],
            capture_output=True,
            encoding="utf-8",
            cwd=os.sep,
            timeout=observe.LONGEST_RUN + 30,
            env={**clean, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", repr(error)
    return ran.stdout, f"ended with {ran.returncode}: {ran.stderr}" if ran.returncode else ""


def run(python: str, package: str, *arguments: str) -> str:
    printed, failure = ran_once(python, package, *arguments)
    assert not failure, failure
    return printed


@cache
def example(package: str) -> str:
    """The documentation's example, from the published distribution's own description."""
    return run(interpreter(VARIABLES[package]), package, "--print-example")


@cache
def observed(variable: str, package: str, example_file: Path) -> dict[str, dict[str, Any]]:
    text = run(interpreter(variable), package, "--example", str(example_file))
    facts: dict[str, dict[str, Any]] = json.loads(text)
    return facts


@cache
def seen(package: str) -> dict[str, dict[str, Any]]:
    text = (HERE / f"seen-{package}.json").read_text(encoding="utf-8")
    facts: dict[str, dict[str, Any]] = json.loads(text)
    return facts


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("examples")
    files = {package: directory / f"{package}.txt" for package in BOTH}
    for package, file in files.items():
        file.write_text(example(package), encoding="utf-8")
    return files


def entries(package: str, scenario: str) -> dict[str, Difference]:
    chosen = [entry for entry in TABLE if (entry.package, entry.scenario) == (package, scenario)]
    return {entry.path: entry for entry in chosen}


def unlike(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """One line for each fact that is not as expected, type and all: True is not 1."""
    for path in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(path, ABSENT), found.get(path, ABSENT)
        if json.dumps(wanted, sort_keys=True) != json.dumps(got, sort_keys=True):
            yield f"{path}\n    expected {wanted!r}\n    found    {got!r}"


@pytest.mark.parametrize(("package", "scenario"), CASES)
def test_the_original_still_does_what_was_seen(package: str, scenario: str, examples: dict[str, Path]) -> None:
    found = observed(VARIABLES[package], package, examples[package])[scenario]
    faults = list(unlike(seen(package)[scenario], found))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("package", "scenario"), CASES)
def test_ours_does_the_same_but_for_the_listed_differences(
    package: str, scenario: str, examples: dict[str, Path]
) -> None:
    expected = dict(seen(package)[scenario])
    for path, entry in entries(package, scenario).items():
        expected[path] = entry.ours
    expected = {path: value for path, value in expected.items() if value != ABSENT}
    found = observed(OURS, package, examples[package])[scenario]
    faults = list(unlike(expected, found))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("package", "scenario"), CASES)
def test_every_listed_difference_says_what_the_original_shows(package: str, scenario: str) -> None:
    facts = seen(package)[scenario]
    listed = {path: entry.original for path, entry in entries(package, scenario).items()}
    faults = list(unlike(listed, {path: facts.get(path, ABSENT) for path in listed}))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("package", "scenario"), CASES)
def test_every_listed_difference_occurs(package: str, scenario: str, examples: dict[str, Path]) -> None:
    listed = entries(package, scenario)
    original = observed(VARIABLES[package], package, examples[package])[scenario]
    ours = observed(OURS, package, examples[package])[scenario]
    gone = [
        f"{entry.decision} {path}: both show {ours.get(path, ABSENT)!r}"
        for path, entry in listed.items()
        if not list(unlike({path: original.get(path, ABSENT)}, {path: ours.get(path, ABSENT)}))
    ]
    assert not gone, "\n".join(gone)


def test_every_listed_difference_is_one_and_cites_a_decision_of_its_scenario() -> None:
    faults = []
    known = {(parameter.values[0], parameter.values[1]) for parameter in CASES}
    places = [(entry.package, entry.scenario, entry.path) for entry in TABLE]
    for entry in TABLE:
        where = f"{entry.decision} {entry.package} {entry.scenario} {entry.path}"
        if (entry.package, entry.scenario) not in known:
            faults.append(f"{where}: no such scenario")
        elif entry.decision not in SCENARIOS[entry.scenario].decisions:
            faults.append(f"{where}: the scenario does not exercise this decision")
        if not list(unlike({"": entry.original}, {"": entry.ours})):
            faults.append(f"{where}: both sides are the same")
        if places.count((entry.package, entry.scenario, entry.path)) > 1:
            faults.append(f"{where}: listed twice")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_decision_is_exercised(decision: str) -> None:
    assert any(decision in scenario.decisions for scenario in SCENARIOS.values())


@pytest.mark.parametrize("package", BOTH)
def test_every_scenario_was_seen_and_nothing_else(package: str) -> None:
    names = {name for name, scenario in SCENARIOS.items() if package in scenario.packages}
    assert seen(package).keys() == names


def metadata(python: str, package: str) -> dict[str, Any]:
    code = (
        "import importlib.metadata as m, json, sys; n = sys.argv[1];"
        "print(json.dumps({'version': m.version(n), 'requires': m.requires(n) or []}))"
    )
    ran = subprocess.run([python, "-c", code, package], capture_output=True, text=True, cwd=os.sep)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("package", BOTH)
def test_our_versions_are_above_the_published_ones(package: str) -> None:
    published = metadata(interpreter(VARIABLES[package]), package)["version"]
    ours = metadata(interpreter(OURS), package)["version"]

    def numbers(version: str) -> tuple[int, ...]:
        release = re.match(r"\d+(\.\d+)*", version)
        assert release, version
        return tuple(int(number) for number in release.group().split("."))

    assert numbers(ours) > numbers(published), (ours, published)


@pytest.mark.parametrize("package", BOTH)
def test_our_uvloop_extra_leaves_windows_out(package: str) -> None:
    requires = metadata(interpreter(OURS), package)["requires"]
    (uvloop,) = [line for line in requires if line.startswith("uvloop")]
    assert re.search(r"(platform_system|sys_platform) != ['\"](Windows|win32)['\"]", uvloop), uvloop
