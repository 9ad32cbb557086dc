"""Builds the two environments of the published packages, or says where they are.

    python tests/contract/environments.py DIRECTORY

makes DIRECTORY/loamy and DIRECTORY/zconcurrent (each has its own: their requirements conflict) and prints
the two variables that the tests read, one `NAME=value` a line. What is complete already is left alone.
It takes CPython 3.11: zConcurrent's requirements have no wheels for later ones, and the pins were observed there.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("loamy", "zconcurrent")
VARIABLES = {package: f"{package.upper()}_ORIGINAL_PYTHON" for package in PACKAGES}
OURS = "LOAMY_OUR_PYTHON"


def requirements(package: str) -> Path:
    """The file with the exact version of the package and of everything under it."""
    return Path(__file__).with_name(f"original-{package}.txt")


def interpreter(directory: Path, package: str) -> Path:
    return directory / package / "bin" / "python"


def build(directory: Path, package: str, python: str) -> Path:
    """Makes one environment unless it stands already for these requirements; gives its interpreter.

    Raises `subprocess.CalledProcessError` where venv or pip fails; what was begun is made anew next time.
    """
    wanted = hashlib.sha256(requirements(package).read_bytes() + python.encode()).hexdigest()
    home = directory / package
    seal = home / "complete"
    if not (seal.exists() and seal.read_text() == wanted):
        subprocess.run([python, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run(
            [
                str(interpreter(directory, package)),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
                "--requirement",
                str(requirements(package)),
            ],
            check=True,
            stdout=sys.stderr,
        )
        seal.write_text(wanted)
    return interpreter(directory, package)


def python_311() -> str:
    """An interpreter of CPython 3.11; ends the program with advice where there is none."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        sys.exit(
            "python3.11 is missing: install it (Debian 12: apt-get install python3.11-venv) or name one by --python"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--python", help="the CPython 3.11 that builds the environments")
    chosen = parser.parse_args()
    directory = chosen.directory.resolve()
    python = chosen.python or python_311()
    for package in PACKAGES:
        print(f"{VARIABLES[package]}={build(directory, package, python)}")


if __name__ == "__main__":
    main()
