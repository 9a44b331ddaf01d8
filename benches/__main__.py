"""Run the benchmarks one after the other, each in a process of its own.

    python -m benches [--out DIR] [NAME ...]

Each prints its table and writes DIR/NAME.json; ops also draws DIR/ops.png. Nothing else should run
on the machine meanwhile.
"""

import argparse
import subprocess
import sys
from pathlib import Path

BENCHES = ("codec", "exact", "rans", "ops")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))} (there are {', '.join(BENCHES)})")
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.names or BENCHES:
        print(f"\n== {name}", flush=True)
        target = options.out / f"{name}.json"
        target.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"benches.bench_{name}", "--json", str(target)]
        if name == "ops":
            command += ["--chart", str(options.out / "ops.png")]
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
