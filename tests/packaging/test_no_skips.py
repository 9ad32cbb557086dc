"""The rule of tests/no_skips.py, applied to tests that break it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RULE = Path(__file__).parents[1] / "no_skips.py"

BREAKS = {
    "a skip mark": "import pytest\n\n@pytest.mark.skip(reason='tired')\ndef test_it(): pass",
    "a condition": "import pytest\n\n@pytest.mark.skipif(True, reason='tired')\ndef test_it(): pass",
    "a skip in the test": "import pytest\n\ndef test_it(): pytest.skip('tired')",
    "an absent module": "import pytest\n\npytest.importorskip('no_such_module', reason='tired')\n\ndef test_it(): pass",
    "an expected failure": "import pytest\n\n@pytest.mark.xfail(reason='tired')\ndef test_it(): assert False",
    "an unexpected success": "import pytest\n\n@pytest.mark.xfail(reason='tired')\ndef test_it(): pass",
    "a skipping fixture": "import pytest\n\n@pytest.fixture\ndef bed(): pytest.skip('tired')\n\ndef test_it(bed): pass",
}


def run(directory: Path, test: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(RULE, directory / "conftest.py")
    (directory / "test_it.py").write_text(test + "\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)],
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
    )


@pytest.mark.parametrize("test", BREAKS.values(), ids=BREAKS.keys())
def test_a_test_that_was_not_run_fails_the_run(test: str, tmp_path: Path) -> None:
    finished = run(tmp_path, test)
    assert finished.returncode not in (0, 5), finished.stdout
    assert "skipped" not in finished.stdout.splitlines()[-1], finished.stdout
    assert "tired" in finished.stdout, "the reason is shown"


def test_a_test_that_passes_passes(tmp_path: Path) -> None:
    finished = run(tmp_path, "def test_it(): pass")
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.splitlines()[-1].startswith("1 passed")


def test_these_tests_are_held_to_the_rule(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("no_skips")
