"""The benchmarks that are commands of their own, started as a user starts them, on little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def output(*arguments) -> str:
    """What `python -m benches.ARGUMENTS` prints."""
    name, *rest = map(str, arguments)
    command = [sys.executable, "-W", "ignore", "-m", f"benches.{name}", *rest]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_large_codes_each_size_in_both_directions(tmp_path):
    output("large", "--config", "tiny", "--sizes", "64x64", "--json", tmp_path / "rows")
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [(row["size"], row["mode"]) for row in rows] == [
        ("64x64", m) for m in ("encode", "decode")
    ]
    assert all(row["bytes"] > 0 and row["peak_bytes"] > 5e7 for row in rows)


def test_large_reports_its_own_memory_not_its_parents(tmp_path):
    """getrusage's peak outlives exec, so a process started by a large one seems as large."""
    from benches import large

    large.save_model("tiny", tmp_path)
    ballast = np.ones(2 * 10**9, np.uint8)
    row = large.in_a_process("encode", "64x64", str(tmp_path), "auto")
    assert row["peak_bytes"] < ballast.nbytes


def test_traffic_counts_every_block():
    assert "| FAT block 96/8 |" in output("traffic")
