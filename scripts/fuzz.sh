#!/usr/bin/env bash
# Fuzzing: scripts/fuzz.sh MINUTES. Of the C API by libFuzzer (tests/fuzz/fuzz_c.c) on all cores, from the corpus in the
# repository; then, where pyln is installed, of the Python functions (tests/test_fuzz.py). What is found anew is kept in
# build/fuzz/corpus. The exit status is 1 where an input failed, which is named; lnorm_fuzz FILE repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?scripts/fuzz.sh MINUTES}
build=${FUZZ_BUILD:-build/fuzz}
sanitizers="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang-19 -DCMAKE_BUILD_TYPE=None -DLNORM_BUILD_SHARED=OFF \
    -DCMAKE_C_FLAGS="-O1 -g1 $sanitizers" >/dev/null
cmake --build "$build" --target lnorm_fuzz -j"$(nproc)" >/dev/null
mkdir -p "$build/corpus" "$build/failed"
fuzzer=$build/tests/fuzz/lnorm_fuzz

# A line for each worker, also where it is interrupted: executions, edges covered and CPU seconds are its last figures.
TIMEFORMAT="CPU seconds: %U"
work() {
    time "$fuzzer" -max_len=200 -len_control=20 -reload=60 -timeout=60 -max_total_time=$((minutes * 60)) \
        -print_final_stats=1 -artifact_prefix="$build/failed/" "$build/corpus" tests/fuzz/corpus >"$build/$1.log" 2>&1
}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
trap 'kill -INT $(pgrep -P "$(jobs -p | paste -sd,)") 2>/dev/null || true' INT TERM
workers=() status=0
for i in $(seq "$(nproc)"); do
    work "$i" 2>"$build/$i.time" &
    workers+=($!)
done
for pid in "${workers[@]}"; do
    until wait "$pid"; do
        kill -0 "$pid" 2>/dev/null || break # it has ended; else a signal came
    done
done
sum() { awk -v OFMT=%.0f "$1" "${@:2}"; }
executions=$(sum '/number_of_executed_units/ {n += $2} END {print n + 0}' "$build"/[0-9]*.log)
seconds=$(sum '/^CPU seconds/ {n += $3} END {print n + 0}' "$build"/[0-9]*.time)
covered=$(sum '{for (i = 1; i < NF; i++) if ($i == "cov:" && $(i + 1) > n) n = $(i + 1)} END {print n + 0}' "$build"/[0-9]*.log)
failed=$(find "$build/failed" -type f)
echo "C: $executions executions in $seconds CPU seconds, $covered edges covered, $(find "$build/corpus" -type f | wc -l) inputs," \
    "$(grep -c . <<<"$failed" || true) failed"
if [ -n "$failed" ]; then
    grep -h -A3 "^FAILED\|runtime error\|ERROR: AddressSanitizer" "$build"/[0-9]*.log || true
    echo "failed inputs, to be repeated by $fuzzer FILE:"
    echo "$failed"
    status=1
fi

if [ -f tests/test_fuzz.py ] && python3 -c "import pyln, hypothesis" 2>/dev/null; then
    PYLN_FUZZ_MINUTES=$minutes python3 -m pytest -q -n0 tests/test_fuzz.py || status=1
fi
exit $status
