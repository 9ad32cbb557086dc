"""What a run needs, made ready or named: tools of the system, environments of the rivals, our own builds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harness.processes import environment

HERE = Path(__file__).resolve().parent.parent
WORK = HERE / ".work"
CHECKOUT = HERE.parent

# Where a tool is missing, this is what installs it on Debian and Ubuntu.
PACKAGES = {"nginx": "nginx-light", "h2load": "nghttp2-client", "cargo": "cargo"}
# Debian keeps nginx where only root's PATH looks.
EXTRA_PATH = ("/usr/sbin", "/sbin", "/usr/local/sbin")
VERSION_FLAG = {"nginx": "-v", "openssl": "version"}
# The distributions whose versions belong beside a figure.
WORTH_NAMING = {"python", "aiohttp", "floodr", "httpx", "loamy", "msgspec", "orjson", "pycurl", "pydantic"}
WORTH_NAMING |= {"pyreqwest", "requests", "uvloop", "zconcurrent"}


class Missing(Exception):
    """Something that a client needs is not there; the message says what installs it."""


@dataclass
class Environments:
    """The programs that clients are run with, each made on first use."""

    our_python: Path
    failures: dict[str, Missing] = field(default_factory=dict)
    made: dict[str, Path] = field(default_factory=dict)

    def program(self, name: str) -> str:
        """The path of what a command begins with.

        Args:
            name: A tool of the system, ``engine``, ``testkit``, or a Python: ``rivals``, ``published``, ``ours``.

        Raises:
            Missing: It is not there and cannot be made.
        """
        if name in self.failures:
            raise self.failures[name]
        if name not in self.made:
            try:
                self.made[name] = self.make(name)
            except Missing as error:
                self.failures[name] = error
                raise
        return str(self.made[name])

    def make(self, name: str) -> Path:
        """Find or build the program `name`."""
        if name == "rivals":
            return self.python_with(name, HERE / "requirements.txt")
        if name == "published":
            return self.python_with(name, HERE / "requirements-published.txt")
        if name == "engine":
            return self.cargo_build("engine", HERE / "Cargo.toml", "loamy-benches")
        if name == "testkit":
            return self.cargo_build("testkit", CHECKOUT / "Cargo.toml", "testkit")
        if name == "ours":
            if not self.our_python.exists():
                raise Missing(f"{self.our_python} is not there: `make bench` makes one, or --our-python PATH")
            return self.our_python
        return tool(name)

    def python_with(self, name: str, requirements: Path) -> Path:
        """The Python of a virtual environment with `requirements`, of the same version as ours."""
        base = self.base_python()
        home = WORK / name
        stamp = home / "made-from"
        want = hashlib.sha256(f"{base}\n{requirements.read_text()}".encode()).hexdigest()
        if not stamp.exists() or stamp.read_text() != want:
            print(f"making the environment {home.name} from {requirements.name}", flush=True)
            shutil.rmtree(home, ignore_errors=True)
            must([base, "-m", "venv", str(home)], f"cannot make an environment for {name} (python3-venv?)")
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            must([*pip, "-r", str(requirements)], f"cannot install {requirements.name}")
            stamp.write_text(want)
        return home / "bin" / "python"

    def base_python(self) -> str:
        """The interpreter that ours was made from, so that all Pythons measured are of one version."""
        python = str(self.our_python) if self.our_python.exists() else "python3"
        return must([python, "-c", "import sys; print(sys._base_executable)"], f"{python} does not run").strip()

    def cargo_build(self, binary: str, manifest: Path, package: str) -> Path:
        """Build a Rust program with the release profile of its workspace."""
        cargo = tool("cargo")
        target = Path(os.environ.get("CARGO_TARGET_DIR", WORK / "target"))
        print(f"building {binary} (release)", flush=True)
        command = [str(cargo), "build", "--release", "--manifest-path", str(manifest)]
        must([*command, "--package", package, "--bin", binary, "--target-dir", str(target)], f"cannot build {binary}")
        return target / "release" / binary

    def versions(self) -> dict[str, str]:
        """What was measured, and with what: name to version, for the programs used so far."""
        found: dict[str, str] = {}
        for name, path in sorted(self.made.items()):
            if name in ("rivals", "published", "ours"):
                found |= {
                    f"{name}: {key}": value for key, value in packages(path).items() if key.lower() in WORTH_NAMING
                }
            elif name not in ("engine", "testkit"):
                flag = VERSION_FLAG.get(name, "--version")
                done = subprocess.run([path, flag], capture_output=True, text=True, check=False)
                number = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
                found[name] = number[0] if number else "unknown"
        return found


def tool(name: str) -> Path:
    """The path of a tool of the system.

    Raises:
        Missing: It is not installed.
    """
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *EXTRA_PATH)))
    if path is None:
        raise Missing(f"{name} is not installed: apt-get install {PACKAGES.get(name, name)}")
    return Path(path)


def must(command: list[str], what: str) -> str:
    """What `command` prints.

    Raises:
        Missing: It failed; the message starts with `what`.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = " / ".join([line for line in lines if line.startswith("error")][:3] or lines[-3:])
        raise Missing(f"{what}: {said}")
    return done.stdout


def packages(python: Path) -> dict[str, str]:
    """The distributions of one environment, and its Python."""
    script = (
        "import importlib.metadata as m, json, platform;"
        "found = {d.metadata['Name']: d.version for d in m.distributions()};"
        "print(json.dumps({'Python': platform.python_version(), **found}))"
    )
    found: dict[str, str] = json.loads(must([str(python), "-c", script], f"{python} does not run"))
    return found


def machine() -> dict[str, str]:
    """The processor, its cores, the memory and the kernel."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    total = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": model[1].strip() if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(total[1]) / 1024 / 1024:.0f} GiB" if total else "unknown",
        "kernel": platform.release(),
        # Others at work on the machine: figures taken at a load much above 0 are to be taken again.
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
