"""What cargo locked: an old crate that a cache still had can slip in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]

# Below these stand published security advisories (RustSec).
FLOORS = {
    "bytes": "1.11.1",
    "h2": "0.4.18",
    "idna": "1.0.3",
    "pyo3": "0.29",
    "rustls-webpki": "0.103.13",
    "url": "2.5.4",
}
RIVALS = {"reqwest", "isahc", "surf", "ureq"}


def locked() -> dict[str, list[Version]]:
    found: dict[str, list[Version]] = {}
    text = (ROOT / "Cargo.lock").read_text()
    for name, version in re.findall(r'^name = "(.+)"\nversion = "(.+)"$', text, re.MULTILINE):
        found.setdefault(name, []).append(Version(version.split("+")[0]))
    return found


def test_the_crates_that_are_in_the_product_are_locked() -> None:
    assert set(locked()) >= set(FLOORS)


@pytest.mark.parametrize(("crate", "floor"), FLOORS.items())
def test_no_crate_is_locked_below_its_floor(crate: str, floor: str) -> None:
    assert [version for version in locked().get(crate, []) if version < Version(floor)] == []


def test_no_rival_is_in_the_product() -> None:
    assert RIVALS.isdisjoint(locked())
