"""The documents say what is so: their snippets run, their tables are those of the code, their links lead somewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import loamy
import pytest
from loamy import testing
from loamy._loamy import KINDS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINKED = [*PAGES, *(ROOT / name / "README.md" for name in ("benches", "crates/loamy", "packaging/zconcurrent"))]
SNIPPET = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n```\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL)
PLACE = "127.0.0.1:8080"
"""The server that the documents speak of."""
LONGEST_EXAMPLE = 40
MAP = ROOT / "ARCHITECTURE.md"
NAME = re.compile(r"`([^`\n]+)`")
"""What stands between backticks."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if SNIPPET.search(page.read_text())], ids=named)
def test_the_snippets_of_a_page_run_in_order_and_print_what_stands_below_them(page: Path) -> None:
    space: dict[str, Any] = {}
    with testing.serve() as server:
        here = server.url("").removeprefix("http://")
        for snippet in SNIPPET.finditer(page.read_text()):
            code = re.sub(r"127\.0\.0\.1:8080|example\.(com|org)(?=/)", here, snippet["code"])
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, str(page), "exec"), space)
            if snippet["printed"] is not None:
                assert printed.getvalue().replace(here, PLACE) == snippet["printed"]


def test_the_page_of_kinds_has_the_table_of_the_engine() -> None:
    text = (ROOT / "docs/reference/kinds.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert [(kind, cls, re.findall("`(.*?)`", parents)) for kind, cls, parents in rows] == KINDS


def test_the_page_of_the_policy_has_every_field_and_phase() -> None:
    text = (ROOT / "docs/reference/policy.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    fields = [field.name for value in (loamy.Policy, loamy.Timeout) for field in dataclasses.fields(value)]
    assert documented[: len(fields)] == fields


def test_the_map_names_every_file_of_the_engine_the_binding_and_the_package() -> None:
    words = set(re.findall(r"\w+", " ".join(NAME.findall(MAP.read_text()))))
    rust = [path for crate in ("loamy", "loamy-python") for path in (ROOT / "crates" / crate / "src").rglob("*.rs")]
    files = [*rust, *(ROOT / "python/loamy").glob("*.py")]
    assert len(files) > 100
    # A folder's `mod.rs` and `tests.rs` are told of by its name.
    nouns = {path: path.parent.name if path.stem in ("mod", "tests") else path.stem for path in files}
    assert [named(path) for path, noun in nouns.items() if noun not in words] == []


def test_the_map_names_no_file_that_there_is_not() -> None:
    paths = [name for name in NAME.findall(MAP.read_text()) if re.fullmatch(r"[\w/-]+\.(rs|py)", name)]
    assert len(paths) > 50
    files = [path for folder in ("crates", "python", "tests") for path in (ROOT / folder).rglob("*.*")]
    assert [name for name in paths if not any(path.match(name) for path in files)] == []


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_list_of_decisions_has_every_page() -> None:
    decisions = ROOT / "docs/decisions"
    linked = re.findall(r"^- \[.+\]\((.+)\)$", (decisions / "README.md").read_text(), re.MULTILINE)
    assert sorted(linked) == sorted(path.name for path in decisions.glob("2*.md"))


def test_an_example_fits_on_a_screen() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    del lengths["quickstart.py"]
    assert len(lengths) >= 9 and max(lengths.values()) <= LONGEST_EXAMPLE


def test_each_promise_of_the_threat_model_names_cells_that_there_are() -> None:
    networks = "".join(path.read_text() for path in (ROOT / "tests/network").glob("test_*.py"))
    listed = {name.upper() for name in re.findall(r"def test_([a-p]\d+)_", networks)}
    listed |= set(re.findall(r"^id = '(\w+)'$", (ROOT / "tests/faults/cells.toml").read_text(), re.MULTILINE))
    promises = (ROOT / "docs/threat-model.md").read_text().split("## What we promise")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", promises, re.MULTILINE)[1:]
    assert len(rows) == promises.count("\n| ") - 1
    for held_by in rows:
        cells = set(re.findall(r"\b[A-P]\d{1,2}\b", held_by))
        assert cells and cells <= listed, held_by
