#!/usr/bin/env bash
# The C tests on machines that this one is not, by Debian's cross compilers and qemu, with the golden digests of
# tests/c/golden.txt:
#
#     scripts/check.sh [--part K/N] TARGET...
#
# TARGET: aarch64, armv7, ppc64le, riscv64, s390x (big endian); nehalem, an x86 without AVX; avx512, its instructions
# carried out by SIMDe on a machine with AVX2. --part runs one of up to six shares of lnorm_check. Installs the packages
# that it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

part=1/1
if [ "${1-}" = --part ]; then
    part=$2
    shift 2
fi
[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# Where a target's programs come from and run: its compiler, with flags, the command to run them with, and what
# instruction sets they must find.
for target in "$@"; do
    compiler=gcc run='' packages=gcc sources=$(ls src/c/*.c) sets=' scalar'
    cross() { # TRIPLE, Debian's name of the architecture, qemu's
        packages="gcc-$1 libc6-dev-$2-cross qemu-user" compiler=$1-gcc run="qemu-$3 -L /usr/$1"
    }
    case $target in
    aarch64) cross aarch64-linux-gnu arm64 aarch64 && sets=' neon scalar' ;;
    armv7) cross arm-linux-gnueabihf armhf arm ;;
    ppc64le) cross powerpc64le-linux-gnu ppc64el ppc64le ;;
    riscv64) cross riscv64-linux-gnu riscv64 riscv64 ;;
    s390x) cross s390x-linux-gnu s390x s390x ;;
    nehalem) packages="gcc qemu-user" run="qemu-x86_64 -cpu Nehalem" ;;
    avx512) packages="gcc libsimde-dev" sets=' avx512 avx2 scalar' ;;
    *) echo "$0: no target is named $target" >&2 && exit 2 ;;
    esac
    # shellcheck disable=SC2086
    scripts/install_debian.sh $packages
    mkdir "$build/$target"
    if [ "$target" = avx512 ]; then
        emulation=tests/avx512_on_avx2
        gcc -O2 -mavx2 -mfma -mf16c -ffp-contract=off -Wno-psabi -I$emulation -Iinclude -c src/c/isa_avx512.c \
            -o "$build/$target/isa_avx512.o"
        sources="$(echo "$sources" | grep -v -e cpu.c -e isa_avx512.c) $emulation/cpu.c"
    fi
    for source in $sources; do
        $compiler -O2 -Iinclude -c "$source" -o "$build/$target/$(basename "$source" .c).o"
    done
    for test in check inner api; do
        $compiler -O2 -Iinclude "tests/c/${test}_test.c" "$build/$target"/*.o -lm -lpthread -o "$build/$target/$test"
    done
    echo "$target:"
    $run "$build/$target/check" --part "$part" tests/c/golden.txt >"$build/log" || { cat "$build/log" && exit 1; }
    tail -2 "$build/log"
    grep -qx "instruction sets:$sets" "$build/log" || { head -1 "$build/log" && echo "expected:$sets" && exit 1; }
    $run "$build/$target/inner" 8 | tail -1
    $run "$build/$target/api"
done
