"""The GPU part: tests of the kernels on the card, then the operations' benchmark.

    python -m benches.gpu --out DIR

Writes DIR/tests.txt, DIR/ops.json and DIR/ops.png and prints the benchmark's table last. Ends with
a non-zero status where no GPU is, where a test fails or where a result is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

TESTS = ("tests/test_ops.py", "tests/test_triton.py", "tests/test_accelerate.py")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benches.gpu: no CUDA device is available", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    environment = {n: value for n, value in os.environ.items() if n != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "pytest", *TESTS]
    with (options.out / "tests.txt").open("w") as log:
        tests = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    summary = (options.out / "tests.txt").read_text().strip().rpartition("\n")[2]
    print(f"{torch.cuda.get_device_name()}: {summary}", flush=True)
    command = [sys.executable, "-m", "benches.bench_ops"]
    command += ["--json", str(options.out / "ops.json"), "--chart", str(options.out / "ops.png")]
    bench = subprocess.run(command, env=environment)
    return tests.returncode or bench.returncode


if __name__ == "__main__":
    sys.exit(main())
