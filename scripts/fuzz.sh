#!/usr/bin/env bash
# Fuzzing: scripts/fuzz.sh MINUTES, after a build. Of the C API by libFuzzer (tests/fuzz/fuzz_c.c), from the corpus in the
# repository, and where pyln is installed of the Python functions (tests/test_fuzz.py), which take one of the cores. What is
# found anew is kept in build/fuzz/corpus. The exit status is 1 where an input failed; lnorm_fuzz FILE repeats it. Ctrl-C
# ends it early, with the same figures.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?scripts/fuzz.sh MINUTES}
build=${FUZZ_BUILD:-build/fuzz}
# Without what takes half of the time: a look at each comparison, though inputs begin as legal calls, and stacks on the heap.
sanitizers="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    -fno-sanitize-coverage=trace-cmp -fsanitize-address-use-after-return=never"
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang-19 -DCMAKE_BUILD_TYPE=None -DLNORM_BUILD_SHARED=OFF \
    -DCMAKE_C_FLAGS="-O1 -g1 ${sanitizers//$'\n'/ }" >/dev/null
cmake --build "$build" --target lnorm_fuzz -j"$(nproc)" >/dev/null
fuzzer=$build/tests/fuzz/lnorm_fuzz
mkdir -p "$build/corpus" "$build/failed"
rm -f "$build"/*.log

TIMEFORMAT="CPU seconds: %U"
c() {
    time "$fuzzer" -max_len=200 -len_control=20 -reload=60 -timeout=60 -report_slow_units=60 -print_final_stats=1 \
        -max_total_time=$((minutes * 60)) -artifact_prefix="$build/failed/" "$build/corpus" tests/fuzz/corpus
}
python() { PYLN_FUZZ_MINUTES=$minutes python3 -P -m pytest -q -n0 tests/test_fuzz.py; }

work=(c) status=0
if python3 -P -c "import pyln, pytest, hypothesis" 2>/dev/null; then
    work=(python c)
fi
while [ ${#work[@]} -lt "$(nproc)" ]; do
    work+=(c)
done
trap 'status=130; pkill -P "$(jobs -p | paste -sd,)" || true' INT TERM
for i in "${!work[@]}"; do
    ${work[i]} >"$build/${work[i]}$i.log" 2>&1 &
done
for pid in $(jobs -p); do
    until wait "$pid"; do
        kill -0 "$pid" 2>/dev/null && continue # a signal came
        status=$((status ? status : 1))
        break
    done
done

sum() { awk -v OFMT=%.0f "$1 END {print n + 0}" "$build"/c[0-9]*.log; }
echo "C: $(sum '/number_of_executed_units/ {n += $2}') executions in $(sum '/^CPU seconds/ {n += $3}') CPU seconds," \
    "$(sum '{for (i = 1; i < NF; i++) if ($i == "cov:" && $(i + 1) > n) n = $(i + 1)}') edges covered," \
    "$(find "$build/corpus" -type f | wc -l) inputs, $(find "$build/failed" -type f | wc -l) failed"
grep -h -A3 "^FAILED\|runtime error\|ERROR: AddressSanitizer\|^Base64: " "$build"/c[0-9]*.log || true
find "$build/failed" -type f -printf "$fuzzer %p\n"
tail -n 20 "$build"/python*.log 2>/dev/null || true
exit $status
