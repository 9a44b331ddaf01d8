"""Style, and the direction of imports: what `make lint` checks."""

import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from processes import environment

CPP = [
    str(path)
    for folder in ("flic_kernels", "fuzz", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".cpp", ".cu", ".h", ".c")
]
COMMANDS = {
    "ruff check": ["check", "."],
    "ruff format": ["format", "--check", "."],
    "clang-format": ["--dry-run", "-Werror", *CPP],
    "lint-imports": ["--no-cache"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_finds_nothing(command):
    program = Path(sys.executable).parent / command.split()[0]
    done = subprocess.run(
        [program, *COMMANDS[command]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert command != "lint-imports" or "6 kept, 0 broken" in done.stdout
