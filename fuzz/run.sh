#!/bin/sh
# Usage: fuzz/run.sh SECONDS [PYTHON]. Fuzzes the rANS coder (libFuzzer, AddressSanitizer,
# UndefinedBehaviorSanitizer) for SECONDS, then the container for a quarter of that.
set -eu
seconds=${1:?usage: fuzz/run.sh SECONDS [PYTHON]}
python=${2:-python3}
cd "$(dirname "$0")/.."
command -v clang++ >/dev/null || {
    echo "fuzz: clang++ is needed (Debian: apt-get install clang)" >&2
    exit 1
}
build=build/fuzz
mkdir -p "$build/corpus" "$build/found"
"$python" tests/helpers/native_builds.py rans-fuzzer "$build/rans_fuzzer"
"$build/rans_fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$build/found/" "$build/corpus" fuzz/seeds
PYTHONPATH=. "$python" fuzz/container_fuzzer.py "$((seconds / 4))"
