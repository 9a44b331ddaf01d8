"""Time and peak memory of whole processes."""

import subprocess
import sys
from pathlib import Path

# In a small process of its own: what a process's parent held when it began counts as its own peak.
_MEASURE = """
import os, sys, time
start = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(bool(status))
"""


def run(command: list[str], folder: Path) -> tuple[float, int]:
    """Seconds of a command, and bytes of its process at its peak."""
    measure = [sys.executable, "-S", "-c", _MEASURE, *command]
    done = subprocess.run(measure, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)
