#!/bin/sh
# Usage: fuzz/run.sh SECONDS [PYTHON]. Fuzzes the rANS coder (libFuzzer, AddressSanitizer,
# UndefinedBehaviorSanitizer) for SECONDS, then the C library for as long, and the Python container
# for a quarter of that.
set -eu
seconds=${1:?usage: fuzz/run.sh SECONDS [PYTHON]}
python=${2:-python3}
cd "$(dirname "$0")/.."
command -v clang++ >/dev/null || {
    echo "fuzz: clang++ is needed (Debian: apt-get install clang)" >&2
    exit 1
}
build=build/fuzz
mkdir -p "$build/corpus" "$build/codec/corpus" "$build/found"
"$python" tests/helpers/native_builds.py rans-fuzzer "$build/rans_fuzzer"
"$build/rans_fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$build/found/" "$build/corpus" fuzz/seeds
"$python" tests/helpers/native_builds.py codec-fuzzer "$build/codec_fuzzer"
PYTHONPATH=. "$python" fuzz/codec_seeds.py "$build/codec"
FLIC_FUZZ_MODEL=$build/codec/model.safetensors "$build/codec_fuzzer" -max_total_time="$seconds" \
    -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$build/found/" "$build/codec/corpus" "$build/codec/seeds"
PYTHONPATH=. "$python" fuzz/container_fuzzer.py "$((seconds / 4))"
