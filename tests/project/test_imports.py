"""The direction of imports: the contracts in pyproject.toml, functions' own imports included."""

import subprocess
import sys
from pathlib import Path

from places import ROOT
from processes import environment


def test_imports_run_one_way():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "5 kept, 0 broken" in done.stdout
