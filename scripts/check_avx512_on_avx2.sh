#!/usr/bin/env bash
# The AVX-512 kernels against the golden digests on a machine that has only AVX2: SIMDe carries the instructions out.
# Needs gcc and SIMDe's headers (Debian: libsimde-dev).
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
emulation=tests/avx512_on_avx2
gcc -O2 -mavx2 -mfma -mf16c -ffp-contract=off -Wno-psabi -I$emulation -Iinclude -c src/c/isa_avx512.c -o "$build/avx512.o"
sources=$(ls src/c/*.c | grep -v -e cpu.c -e isa_avx512.c)
for test in check inner; do
    gcc -O2 -Iinclude $sources $emulation/cpu.c "$build/avx512.o" tests/c/${test}_test.c -lm -o "$build/$test"
done
"$build/check" tests/c/golden.txt | tee "$build/log" | tail -2
grep -q avx512 "$build/log"
"$build/inner" 4 | tail -1
