"""The built wheels and sdists hold what they promise; the same files are what `pip install` would get."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
EITHER = pytest.mark.parametrize("fixture", ["loamy_dist", "zconcurrent_dist"])


def requirements(built: Any) -> dict[str, Requirement]:
    """Every requirement of a wheel by name; those of extras as `extra/name`."""
    found = {}
    for text in built.metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        extra = re.search(r"""extra == ['"](\w+)['"]""", text)
        found[f"{extra[1]}/{requirement.name}" if extra else requirement.name] = requirement
    return found


@pytest.mark.parametrize(
    ("fixture", "name", "published"),
    [("loamy_dist", "loamy", "0.0.10"), ("zconcurrent_dist", "zconcurrent", "0.0.2a0")],
)
def test_versions_are_above_the_published_ones(
    fixture: str, name: str, published: str, request: pytest.FixtureRequest
) -> None:
    metadata = request.getfixturevalue(fixture).metadata
    assert metadata["Name"] == name
    assert Version(metadata["Version"]) > Version(published)
    assert not Version(metadata["Version"]).is_prerelease, "pip would pass over it"


def test_every_place_that_names_the_version_names_the_same(loamy_dist: Any, zconcurrent_dist: Any) -> None:
    (cargo,) = re.findall(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert loamy_dist.metadata["Version"] == zconcurrent_dist.metadata["Version"] == cargo
    assert importlib.metadata.version("loamy") == cargo

    import loamy

    assert loamy.__version__ == cargo


def test_loamy_asks_for_msgspec_alone_and_as_a_range(loamy_dist: Any) -> None:
    needed = {name: asked for name, asked in requirements(loamy_dist).items() if "/" not in name}
    assert set(needed) == {"msgspec"}
    assert needed["msgspec"].specifier.contains("0.18.6")
    assert needed["msgspec"].specifier.contains("0.22.0")
    assert not needed["msgspec"].specifier.contains("1.0")


def test_zconcurrent_asks_for_loamy_of_the_same_minor_version_alone(zconcurrent_dist: Any) -> None:
    needed = {name: asked for name, asked in requirements(zconcurrent_dist).items() if "/" not in name}
    assert set(needed) == {"loamy"}
    assert needed["loamy"].specifier.contains("0.1.0")
    assert not needed["loamy"].specifier.contains("0.0.10"), "the published loamy has no engine"
    assert not needed["loamy"].specifier.contains("0.2.0")


@EITHER
def test_the_uvloop_extra_installs_uvloop_except_on_windows(fixture: str, request: pytest.FixtureRequest) -> None:
    built = request.getfixturevalue(fixture)
    assert "uvloop" in built.metadata.get_all("Provides-Extra")
    marker = requirements(built)["uvloop/uvloop"].marker
    assert marker is not None
    assert marker.evaluate({"platform_system": "Linux", "extra": "uvloop"})
    assert marker.evaluate({"platform_system": "Darwin", "extra": "uvloop"})
    assert not marker.evaluate({"platform_system": "Windows", "extra": "uvloop"})
    assert not marker.evaluate({"platform_system": "Linux", "extra": ""})


def test_the_otel_extra_installs_the_api_alone(loamy_dist: Any) -> None:
    assert "otel" in loamy_dist.metadata.get_all("Provides-Extra")
    [name] = [name for name in requirements(loamy_dist) if name.startswith("otel/")]
    assert name == "otel/opentelemetry-api"
    marker = requirements(loamy_dist)[name].marker
    assert marker is not None
    assert marker.evaluate({"extra": "otel"}) and not marker.evaluate({"extra": ""})


def test_the_progress_extra_installs_tqdm(loamy_dist: Any) -> None:
    marker = requirements(loamy_dist)["progress/tqdm"].marker
    assert marker is not None
    assert marker.evaluate({"extra": "progress"})
    assert not marker.evaluate({"extra": ""})


@EITHER
def test_python_3_10_is_the_floor_and_there_is_no_ceiling(fixture: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(fixture).metadata["Requires-Python"] == ">=3.10"


@EITHER
def test_the_licence_travels_in_wheel_and_sdist(fixture: str, request: pytest.FixtureRequest) -> None:
    built = request.getfixturevalue(fixture)
    assert built.metadata["License-Expression"] == "MIT"
    (licence,) = (file for file in built.wheel_files if file.endswith(".dist-info/licenses/LICENSE"))
    assert built.wheel_text(licence) == (ROOT / "LICENSE").read_text()
    assert "LICENSE" in built.sdist_files


@EITHER
def test_the_readme_is_the_description(fixture: str, request: pytest.FixtureRequest) -> None:
    metadata = request.getfixturevalue(fixture).metadata
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert metadata.get_payload().lstrip().startswith("# ")


def test_the_wheel_of_loamy_is_typed_and_holds_its_module_with_stubs(loamy_dist: Any) -> None:
    files = set(loamy_dist.wheel_files)
    in_checkout = {
        path.relative_to(ROOT / "python").as_posix()
        for path in (ROOT / "python" / "loamy").rglob("*")
        if path.suffix in {".py", ".pyi", ".typed"} or path.name == "py.typed"
    }
    assert {"loamy/__init__.py", "loamy/session.py", "loamy/py.typed", "loamy/_loamy.pyi"} <= in_checkout
    assert in_checkout <= files
    (module,) = (file for file in files if file.startswith("loamy/_loamy.") and file.endswith((".so", ".pyd")))
    assert module


def test_the_wheel_of_zconcurrent_is_pure_python_and_typed(zconcurrent_dist: Any) -> None:
    assert zconcurrent_dist.wheel_path.name.endswith("-py3-none-any.whl")
    packed = {file for file in zconcurrent_dist.wheel_files if ".dist-info/" not in file}
    assert packed == {"zconcurrent/__init__.py", "zconcurrent/zsession.py", "zconcurrent/py.typed"}


def test_nothing_stands_in_the_wheels_beside_the_two_packages(loamy_dist: Any, zconcurrent_dist: Any) -> None:
    for built, name in [(loamy_dist, "loamy"), (zconcurrent_dist, "zconcurrent")]:
        tops = {file.split("/")[0] for file in built.wheel_files}
        version = built.metadata["Version"]
        # A tool that repairs a wheel may put native libraries beside the package; we ask for none.
        assert tops == {name, f"{name}-{version}.dist-info"}
        assert not [file for file in built.wheel_files if "__pycache__" in file]


def test_the_sdist_of_loamy_holds_the_sources_and_the_lock_file_but_nothing_built(loamy_dist: Any) -> None:
    files = set(loamy_dist.sdist_files)
    assert {"Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "PKG-INFO"} <= files
    assert {"crates/loamy/src/lib.rs", "crates/loamy-python/src/lib.rs", "python/loamy/__init__.py"} <= files
    assert not [file for file in files if file.startswith(("target/", "benches/", "tests/", ".venv"))]
    assert not [file for file in files if file.endswith((".so", ".pyd", ".pyc"))]


@EITHER
def test_the_sdist_builds_into_a_wheel_that_imports(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    built = request.getfixturevalue(fixture)
    # Always the same place and the interpreter of the other builds: to cargo, another path is another crate to compile.
    unpacked = built.sdist_path.parent / "unpacked" / built.metadata["Name"]
    shutil.rmtree(unpacked, ignore_errors=True)
    shutil.unpack_archive(built.sdist_path, unpacked)
    (source,) = unpacked.iterdir()
    pip = [os.environ.get("PYO3_PYTHON", sys.executable), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    environment = {**os.environ, "MATURIN_PEP517_ARGS": "--profile dev"}
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True, env=environment, timeout=900
    )
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True, timeout=120)
    name = built.metadata["Name"]
    module = {"loamy": "loamy._loamy", "zconcurrent": "zconcurrent.zsession"}[name]
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(target)!r}); import {module} as m; print(m.__file__)",
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert shown.stdout.startswith(str(target))
