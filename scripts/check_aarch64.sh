#!/usr/bin/env bash
# The C tests on AArch64, NEON and scalar, under qemu: the same golden digests as everywhere.
# Needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for test in check inner api; do
    aarch64-linux-gnu-gcc -O2 -Iinclude src/c/*.c tests/c/${test}_test.c -lm -lpthread -o "$build/$test"
done
run="qemu-aarch64 -L /usr/aarch64-linux-gnu"
$run "$build/check" tests/c/golden.txt | tee "$build/log" | tail -2
grep -q neon "$build/log"
$run "$build/inner" 8 | tail -1
$run "$build/api"
