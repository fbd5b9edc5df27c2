#!/usr/bin/env bash
# Build the compiled core with sanitizers and call it with random input: fuzz.sh [problems] [seed]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=build/sanitized
python=$(command -v python)
cmake -S . -B "$build" -DSFUMATO_SANITIZE=ON -DPython_EXECUTABLE="$python" \
    -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" > /dev/null
cmake --build "$build" --parallel > /dev/null
# Python itself is not built with sanitizers, so their library is loaded first, and what Python never
# frees is no finding.
LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    "$python" benchmarks/fuzz.py "${1:-1000000}" --core "$build" --seed "${2:-0}"
