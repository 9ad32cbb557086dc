"""Where the built distributions are, and what they say of themselves."""

from __future__ import annotations

import email
import email.message
import os
import tarfile
import zipfile
from pathlib import Path

import pytest


class Built:
    """One distribution: its wheel and its sdist, opened."""

    def __init__(self, dist: Path, name: str) -> None:
        (self.wheel_path,) = dist.glob(f"{name}-*.whl")
        (self.sdist_path,) = dist.glob(f"{name}-*.tar.gz")
        with zipfile.ZipFile(self.wheel_path) as wheel:
            self.wheel_files = wheel.namelist()
            (metadata,) = (file for file in self.wheel_files if file.endswith(".dist-info/METADATA"))
            self.metadata: email.message.Message = email.message_from_bytes(wheel.read(metadata))
        with tarfile.open(self.sdist_path) as sdist:
            self.sdist_files = [member.split("/", 1)[1] for member in sdist.getnames() if "/" in member]

    def wheel_text(self, name: str) -> str:
        with zipfile.ZipFile(self.wheel_path) as wheel:
            return wheel.read(name).decode()


@pytest.fixture(scope="session")
def dist() -> Path:
    """The directory with the wheels and sdists under test."""
    if "LOAMY_DIST" not in os.environ:
        pytest.fail("LOAMY_DIST does not say where the built distributions are; run `make packaging`")
    return Path(os.environ["LOAMY_DIST"])


@pytest.fixture(scope="session")
def loamy_dist(dist: Path) -> Built:
    return Built(dist, "loamy")


@pytest.fixture(scope="session")
def zconcurrent_dist(dist: Path) -> Built:
    return Built(dist, "zconcurrent")
