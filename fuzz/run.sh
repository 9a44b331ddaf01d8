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
flags="-g -O1 -std=c++17 -pthread -fsanitize=fuzzer-no-link,address,undefined \
-fno-sanitize-recover=undefined"
objects=""
for source in flic_kernels/csrc/isa.cpp flic_kernels/csrc/rans/*.cpp tests/native/warp_emulator.cpp; do
    object=$build/$(basename "$source" .cpp).o
    extra=""
    if [ "$(uname -m)" = x86_64 ]; then
        case $source in
        *_avx2.cpp) extra="-mavx2 -mfma -mbmi2 -mf16c" ;;
        *_avx512.cpp)
            extra="-mavx2 -mfma -mbmi2 -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl" ;;
        esac
    fi
    clang++ $flags $extra -Iflic_kernels/csrc -c "$source" -o "$object"
    objects="$objects $object"
done
clang++ $flags -fsanitize=fuzzer -Iflic_kernels/csrc fuzz/rans_fuzzer.cpp $objects \
    -o "$build/rans_fuzzer"
"$build/rans_fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$build/found/" "$build/corpus" fuzz/seeds
PYTHONPATH=. "$python" fuzz/container_fuzzer.py "$((seconds / 4))"
